"""Attacks that take more than their share. The suite judges their effect on others from outside; an attack's report
only says what the attacker saw."""

from __future__ import annotations

import mmap
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress

from rescoldo.isolation.syscalls import set_process_name

from .kit import Target, Tries, attack

_BLOCK = bytes(2**20)
_MOST = 2**31  # maximum bytes of requested memory: far above every limit
_SCRATCH = ("/tmp", "/var/tmp", "/dev/shm")


def _sleep_on() -> None:
    while True:
        time.sleep(60)


@attack("fork bomb")
def fork_bomb(target: Target, tries: Tries) -> None:
    """Fork children that fork in turn until the limit refuses."""
    limit, born = target["most_processes"], 0
    for _ in range(4 * limit):
        try:
            child = os.fork()
        except BlockingIOError:
            break
        if child == 0:
            with suppress(OSError):
                for _ in range(4):
                    os.fork()
            _sleep_on()
        born += 1
    if born >= 2 * limit:
        tries.gained["processes"] = str(born)


@attack("thread bomb", unprivileged=False)
def thread_bomb(target: Target, tries: Tries) -> None:
    limit, born = target["most_processes"], 0
    threading.stack_size(65536)
    with suppress(RuntimeError):
        for _ in range(4 * limit):
            threading.Thread(target=_sleep_on, daemon=True).start()
            born += 1
    if born >= 2 * limit:
        tries.gained["threads"] = str(born)


@attack("memory bomb: the heap", unprivileged=False)
def memory_heap(target: Target, tries: Tries) -> None:
    held = [bytearray(os.urandom(16)) * 65536 for _ in range(_MOST // 2**20)]
    tries.gained["heap"] = str(len(held))


@attack("memory bomb: shared mappings", unprivileged=False)
def memory_shared(target: Target, tries: Tries) -> None:
    area = mmap.mmap(-1, _MOST, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    for _ in range(_MOST // len(_BLOCK)):
        area.write(b"x" * len(_BLOCK))
    tries.gained["shared mapping"] = str(_MOST)


@attack("memory bomb: files in memory (memfd)", unprivileged=False)
def memory_files(target: Target, tries: Tries) -> None:
    for _ in range(_MOST // 2**28):
        descriptor = os.memfd_create("bomb")
        for _ in range(2**28 // len(_BLOCK)):
            os.write(descriptor, _BLOCK)
    tries.gained["memfd"] = str(_MOST)


@attack("memory bomb: many children, each with a little", unprivileged=False)
def memory_children(target: Target, tries: Tries) -> None:
    children = set()
    for _ in range(64):
        child = os.fork()
        if child == 0:
            held = bytearray(b"x") * (_MOST // 64)
            _sleep_on()
            del held
        children.add(child)
    most = 2 * target["memory"] // (_MOST // 64)
    deadline = time.monotonic() + 20
    while len(children) > most and time.monotonic() < deadline:
        children -= {child for child in children if os.waitpid(child, os.WNOHANG)[0]}
        time.sleep(0.05)
    if len(children) > most:
        tries.gained["children"] = f"{len(children)} with 32 MiB each"
    for child in children:
        os.kill(child, signal.SIGKILL)


@attack("fills /tmp, /var/tmp and /dev/shm", unprivileged=False)
def disk_fill(target: Target, tries: Tries) -> None:
    for folder in _SCRATCH:
        written = 0
        with suppress(OSError), open(f"{folder}/fill", "wb", 0) as file:
            while written < 2**29:
                written += file.write(_BLOCK)
        with suppress(OSError):
            os.unlink(f"{folder}/fill")
        if written > 2**27:
            tries.gained[folder] = str(written)


@attack("makes files without end, each empty", unprivileged=False)
def inodes(target: Target, tries: Tries) -> None:
    for folder in _SCRATCH:
        made = 0
        with suppress(OSError):
            base = tempfile.mkdtemp(dir=folder)
            for made in range(400_000):
                os.close(os.open(f"{base}/{made}", os.O_CREAT | os.O_WRONLY))
        if made > 100_000:
            tries.gained[folder] = str(made)


@attack("opens descriptors without end", unprivileged=True)
def descriptor_bomb(target: Target, tries: Tries) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    with suppress(OSError):
        while len(held) < 200_000:
            held += [os.open("/dev/null", os.O_RDONLY)]
    for descriptor in held:
        os.close(descriptor)
    if len(held) > soft or len(held) > 20_000:
        tries.gained["descriptors"] = str(len(held))


@attack("floods its log", unprivileged=True)
def log_flood(target: Target, tries: Tries) -> None:
    end = time.monotonic() + 3
    while time.monotonic() < end:
        os.write(1, b"x" * 65536)
        os.write(2, b"\n" * 1000)


@attack("uses every processor beside a victim, with limits.cpu", unprivileged=False)
def processor_hog(target: Target, tries: Tries) -> None:
    """Run eight busy processes for a while and judge the processor time that they got."""
    span = 3.0
    code = f"import time\nend = time.monotonic() + {span}\nwhile time.monotonic() < end: pass"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    hogs = [subprocess.Popen([sys.executable, "-I", "-S", "-c", code]) for _ in range(8)]
    begin = time.monotonic()
    for hog in hogs:
        hog.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    share = used / (time.monotonic() - begin)
    if share > 2 * target["cpus"]:
        tries.gained["processors"] = f"{share:.2f}, where {target['cpus']} were allowed"


@attack("a child that has left the session outlives the instance", unprivileged=False)
def orphan(target: Target, tries: Tries) -> None:
    """Fork twice into a new session and ignore all signals; the process's name identifies it."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
                with suppress(OSError, ValueError):
                    signal.signal(number, signal.SIG_IGN)
            set_process_name(target["orphan_name"])
            for descriptor in (0, 1, 2):
                with suppress(OSError):
                    os.close(descriptor)
            _sleep_on()
        os._exit(0)


@attack("ignores SIGTERM and keeps on working", unprivileged=True)
def deaf(target: Target, tries: Tries) -> None:
    set_process_name(target["orphan_name"])
    child = os.fork()
    if child == 0:
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            with suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_IGN)
        _sleep_on()
