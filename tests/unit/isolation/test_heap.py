from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

GLIBC = hasattr(ctypes.CDLL(None), "mallinfo2")
NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"

# prints the number of heaps after threads used some, and whether a large block is mapped separately even though
# a similar one was freed before
PROGRAM = f"""
import ctypes, os, sys, tempfile, threading
from rescoldo.isolation.heap import settle

if "settle" in sys.argv:
    settle()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fdopen.restype = ctypes.c_void_p
libc.free.argtypes = libc.fclose.argtypes = [ctypes.c_void_p]
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in {NAMES.split()}]

libc.mallinfo2.restype = Info

def in_threads():
    every = threading.Barrier(4)
    def use():
        block = libc.malloc(2000)
        every.wait()
        libc.free(block)
    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()

in_threads()
libc.free(libc.malloc(2**20))
before = libc.mallinfo2().hblks
libc.malloc(2**20)
mapped = libc.mallinfo2().hblks - before
with tempfile.TemporaryFile() as file:
    out = libc.fdopen(os.dup(file.fileno()), b"w")
    libc.malloc_info(0, out)
    libc.fclose(out)
    file.seek(0)
    print(file.read().count(b"<heap nr="), mapped)
"""


@pytest.mark.slow
@pytest.mark.skipif(not GLIBC, reason="about glibc")
def test_a_settled_process_has_one_heap_and_always_maps_large_blocks() -> None:
    assert _heaps_and_mapped("settle") == (1, 1)


@pytest.mark.slow
@pytest.mark.skipif(not GLIBC, reason="about glibc")
def test_without_settling_threads_have_heaps_and_large_blocks_go_into_them() -> None:
    heaps, mapped = _heaps_and_mapped()
    assert (heaps > 1, mapped) == (True, 0), "the test above would prove nothing"


def _heaps_and_mapped(*argv: str) -> tuple[int, int]:
    ran = subprocess.run([sys.executable, "-c", PROGRAM, *argv], capture_output=True, text=True, check=True)
    heaps, mapped = ran.stdout.split()
    return int(heaps), int(mapped)
