"""The limits of one process."""

from __future__ import annotations

import subprocess
import sys

MIB = 2**20
LIMITED = """
import resource, threading, time
from rescoldo.isolation.identity import limit_data
limit_data(64 << 20, 4)
kept = b"x" * (64 << 20)
for _ in range(4 + 8):
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
try:
    b"x" * (400 << 20)
except MemoryError:
    print("refused")
print(resource.getrlimit(resource.RLIMIT_DATA), resource.getrlimit(resource.RLIMIT_STACK)[0])
"""


def test_memory_up_to_the_limit_and_threads_are_had_and_far_beyond_it_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "refused"
    stack = int(second.rpartition(" ")[2])
    most = 64 * MIB + 32 * MIB + (4 + 16) * (stack if stack > 0 else 2 * MIB)
    assert second.startswith(f"({most}, {most})")
