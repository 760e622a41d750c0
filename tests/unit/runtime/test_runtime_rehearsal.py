from __future__ import annotations

import json
import subprocess
import sys

# In a process of its own: pytest-timeout sets an alarm in this one. The first rehearsal leaves libuv's signal
# pipe, which the process keeps; so the second is checked. The loop is kept to serve with.
PROGRAM = """
import json, os, signal, sys, time
from rescoldo.runtime import instance
instance.rehearse()
instance._loop.close()
before = len(os.listdir("/proc/self/fd"))
instance.rehearse()
def threads():
    return len(os.listdir("/proc/self/task"))
until = time.monotonic() + 5  # Python calls a thread over a moment before the kernel does
while threads() > 1 and time.monotonic() < until:
    time.sleep(0)
print(json.dumps({
    "alarm": signal.getitimer(signal.ITIMER_REAL)[0],
    "handler": signal.getsignal(signal.SIGALRM) == signal.SIG_DFL,
    "descriptors": (instance._loop.close(), len(os.listdir("/proc/self/fd")))[1] - before,
    "module": "function.handler" in sys.modules or "function" in sys.modules,
    "finders": [finder for finder in sys.meta_path if "BareNames" in str(finder)],
    "path": [path for path in [*sys.path, *sys.path_importer_cache] if "rehearsal" in path],
    "threads": threads(),
}))
"""


def test_a_rehearsal_leaves_no_alarm_descriptor_or_module_behind() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {
        "alarm": 0.0, "handler": True, "descriptors": 0, "module": False, "finders": [], "path": [], "threads": 1,
    }  # fmt: skip
