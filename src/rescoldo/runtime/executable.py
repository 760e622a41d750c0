"""Explains why a file cannot be executed here. It reads the file itself, because the kernel's errno says too little."""

from __future__ import annotations

import os
import struct
from pathlib import Path

_HEAD = 4096  # bytes; contains the ELF headers or a script's first line
_ELF = b"\x7fELF"
_PT_INTERP = 3
_OTHERS = {b"MZ": "a Windows program", b"\xcf\xfa\xed\xfe": "a macOS program", b"\xca\xfe\xba\xbe": "a macOS program"}
# e_machine of the ELF header, elf.h: number → name in `uname -m`
_MACHINES = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64", 22: "s390x", 21: "ppc64le"}


def why_not(path: Path) -> str | None:
    """Return why the file at `path` cannot be executed here, with a remedy; None if no reason is found."""
    try:
        if not path.is_file():
            return "is not a file" if path.exists() else "does not exist"
        if not path.stat().st_mode & 0o111:
            return f"is not executable; run `chmod +x {path.name}`"
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if head.startswith(b"#!"):
        return _script_trouble(head)
    if head.startswith(_ELF):
        return _elf_trouble(head)
    for magic, kind in _OTHERS.items():
        if head.startswith(magic):
            return f"is {kind}; build it for Linux on {os.uname().machine}"
    return "is neither a Linux program nor a script that begins with `#!` and its interpreter"


def _script_trouble(head: bytes) -> str | None:
    line = head.partition(b"\n")[0][2:]
    if b"\r" in line:
        return "is a script whose first line ends with a carriage return; save it with Unix line endings"
    # for the kernel, spaces and tabs alone end the interpreter's path (linux, fs/binfmt_script.c)
    interpreter = os.fsdecode(line.replace(b"\t", b" ").strip(b" ").partition(b" ")[0])
    if not interpreter or not Path(interpreter).exists():
        return f"is a script for {interpreter or 'no interpreter'}, which is not on this machine"
    return None


def _elf_trouble(head: bytes) -> str | None:
    if len(head) < 64:
        return "is a damaged program: its ELF header is cut off"
    order = "<" if head[5] == 1 else ">"
    (number,) = struct.unpack_from(order + "H", head, 18)
    built, here = _MACHINES.get(number, f"machine {number}"), os.uname().machine
    if built != here:
        return f"is built for {built}, and this machine is {here}; build it for {here}"
    loader = _loader(head, order) if head[4] == 2 else ""
    if loader and not Path(loader).exists():
        return f"needs the loader {loader}, which is not on this machine; link it statically"
    return None


def _loader(head: bytes, order: str) -> str:
    """Return the dynamic loader that a 64-bit program names; empty for a static one."""
    (table,) = struct.unpack_from(order + "Q", head, 32)
    size, count = struct.unpack_from(order + "HH", head, 54)
    for entry in range(table, min(table + size * count, len(head) - 56 + 1), max(size, 1)):
        (kind,) = struct.unpack_from(order + "I", head, entry)
        if kind == _PT_INTERP:
            offset, _, _, length = struct.unpack_from(order + "4Q", head, entry + 8)
            return os.fsdecode(head[offset : offset + length].rstrip(b"\0"))
    return ""
