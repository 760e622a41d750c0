"""Attacks on inherited variables, descriptors and memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import socket
import stat
import sys
from typing import Any

from .kit import LIBC, MARKER, Target, Tries, attack, read

_PIECE = 32768  # bytes of memory to search at once: a pipe takes them without blocking
_MASK = 0xFF
_OURS = re.compile("^(RESCOLDO_|PYTHON|HAPROXY|BASIC_AUTH|VIRTUAL_ENV|SUDO|SSH|AWS|KUBE)")


@attack("reads the platform's environment")
def environment(target: Target, tries: Tries) -> None:
    def of_the_platform() -> list[str]:
        found = [name for name in os.environ if _OURS.match(name) and name != "PYTHONPATH"]
        # folders of its own bundle are expected; others are not
        folders = filter(None, os.environ.get("PYTHONPATH", "").split(":"))
        return found + [path for path in folders if not path.startswith(own)]

    own = target["bundles"] + "/"
    tries.get("variables of the platform", of_the_platform)
    tries.get("its marker", lambda: [name for name, value in os.environ.items() if MARKER in value])
    tries.get("/proc/self/environ", lambda: _OURS.findall(read("/proc/self/environ").replace("\0", "\n")))
    tries.get("arguments", lambda: [word for word in (*sys.argv, *sys.orig_argv) if MARKER in word])


@attack("uses descriptors that it inherited")
def descriptors(target: Target, tries: Tries) -> None:
    for descriptor in range(4096):
        try:
            mode = os.fstat(descriptor).st_mode
        except OSError:
            continue
        tries.get(f"descriptor {descriptor}", lambda d=descriptor, m=mode: _use_of(d, m, target["own"]))


def _use_of(descriptor: int, mode: int, own: dict[str, Any]) -> str:
    """Return what an inherited descriptor gives beyond the instance's own input, output and socket; empty if
    nothing."""
    name = os.readlink(f"/proc/self/fd/{descriptor}")
    if name == f"/proc/{os.getpid()}":  # it keeps the rule that allows this folder
        return ""
    if stat.S_ISDIR(mode) or stat.S_ISBLK(mode):
        return name
    if stat.S_ISREG(mode):
        return "" if name.startswith(("/usr/", "/etc/", "/opt/")) else name
    if stat.S_ISCHR(mode):
        return "" if name in ("/dev/null", "/dev/urandom", "/dev/random") else name
    if stat.S_ISSOCK(mode):
        return _peer(descriptor, own)
    if stat.S_ISFIFO(mode):  # the runtime keeps a second descriptor for the instance's output
        own_output = any(os.path.sameopenfile(descriptor, number) for number in (1, 2))
        return "" if own_output or name.startswith("pipe:") else name
    return "" if name.startswith("anon_inode:[event") else name


def _peer(descriptor: int, own: dict[str, Any]) -> str:
    """Return the socket's name unless it is the instance's listener or a connection to it."""
    with contextlib.closing(socket.socket(fileno=os.dup(descriptor))) as sock:
        name = sock.getsockname()
        if sock.family != socket.AF_UNIX:
            return "" if own["port"] and name[1] == own["port"] else str(sock)
        mine = name == own["socket"] or (name == "" and _is_pair_of_own(sock))
        return "" if mine else repr(name or sock)


def _is_pair_of_own(sock: socket.socket) -> bool:
    pid, _, _ = (int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[at : at + 4], sys.byteorder)
                 for at in (0, 4, 8))  # fmt: skip
    return pid == os.getpid()


@attack("finds data of other functions or of the platform in its own memory")
def leftovers(target: Target, tries: Tries) -> None:
    """Search all memory that a fork inherits from its parent. The heap also holds freed blocks."""
    regions = 0
    with Memory() as memory:
        for line in read("/proc/self/maps").splitlines():
            span, rights, *_ = line.split()
            if not rights.startswith("rw"):
                continue
            begin, end = (int(number, 16) for number in span.split("-"))
            regions += 1
            for name, masked in target["memory_marks"].items():
                if found := memory.search(begin, end, bytes.fromhex(masked)):
                    tries.get(f"{name} in {span}", lambda found=found: found)
        own = f"{os.getpid()} is what we look for"
        mask = bytes(byte ^ _MASK for byte in own.encode())
        begin = id(own) & ~0xFFF
        found = memory.search(begin, begin + 2 * 4096, mask)
    tries.get("its own memory can be searched", lambda: "" if found and regions > 5 else f"only {regions} regions")


class Memory:
    """Searches this process's memory for bytes that are given with inverted bits, so that the search does not find
    itself. Reads through a pipe: an unmapped page then causes an error instead of a crash."""

    def __init__(self) -> None:
        self._piece = ctypes.create_string_buffer(_PIECE)
        self._needle = ctypes.create_string_buffer(256)
        LIBC.memmem.restype = ctypes.c_void_p
        LIBC.write.restype = ctypes.c_ssize_t

    def __enter__(self) -> Memory:
        self._out, self._in = os.pipe()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._out)
        os.close(self._in)

    def search(self, begin: int, end: int, masked: bytes) -> str:
        """Return the surroundings of the first match between two addresses; empty without a match."""
        size = len(masked)
        for at, byte in enumerate(masked):
            self._needle[at] = byte ^ _MASK
        while begin + size < end:
            got = self._copy(begin, min(_PIECE, end - begin))
            found = LIBC.memmem(self._piece, ctypes.c_size_t(got), self._needle, ctypes.c_size_t(size))
            if found:
                at = found - ctypes.addressof(self._piece)
                if not self._is_own(begin + at):
                    return repr(self._piece.raw[max(0, at - 40) : at + size + 40])
            begin += max(got - size, 4096)
        return ""

    def _copy(self, begin: int, size: int) -> int:
        got = LIBC.write(self._in, ctypes.c_void_p(begin), ctypes.c_size_t(size))
        if got <= 0:
            return 0
        left = got
        while left:
            left -= os.readv(self._out, [memoryview(self._piece).cast("B")[got - left : got]])
        return int(got)

    def _is_own(self, address: int) -> bool:
        return any(0 <= address - ctypes.addressof(own) < len(own) for own in (self._piece, self._needle))
