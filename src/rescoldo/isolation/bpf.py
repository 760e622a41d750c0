"""Assembles small eBPF programs, and loads and attaches them with bpf(2).

A compiler and a loader library would weigh more than the few dozen instructions that rescoldo needs.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from rescoldo.isolation.syscalls import raw_syscall

_SYS_BPF = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD = 5
_PROG_QUERY = 16
_LINK_CREATE = 28
_INSTRUCTION = struct.Struct("=BBhi")  # struct bpf_insn: code, registers, offset, immediate
_LICENCE = b"Apache-2.0\0"
_LOG_SIZE = 65536  # bytes of the verifier's log about a program that it refuses
_MOST_QUERIED = 64

Test = Literal["==", "!=", ">", ">=", "<"]
_TESTS: dict[Test, int] = {"==": 0x16, "!=": 0x56, ">": 0x26, ">=": 0x36, "<": 0xA6}  # BPF_JMP32, constant
_BY_REGISTER = 0x08  # BPF_X: compare or compute with a register
_NO_JUMP = ""


@dataclass(slots=True)
class BpfProgram:
    """Builds a program. A register is its number: 1 to 5 arguments, 0 result, 6 to 9 kept across calls, 10 stack.

    Arithmetic and comparisons use 32 bits, unsigned.
    """

    _code: list[tuple[int, int, int, int, str]] = field(default_factory=list)  # the last is the label jumped to
    _labels: dict[str, int] = field(default_factory=dict)

    def label(self, name: str) -> None:
        """Name the next instruction; jumps to `name` go there."""
        assert name not in self._labels, name
        self._labels[name] = len(self._code)

    def load(self, target: int, base: int, offset: int) -> None:
        """target = 32 bits at base + offset."""
        self._add(0x61, target, base, offset)

    def load_pointer(self, target: int, base: int, offset: int) -> None:
        """target = 64 bits at base + offset."""
        self._add(0x79, target, base, offset)

    def store(self, base: int, offset: int, source: int) -> None:
        """32 bits at base + offset = source."""
        self._add(0x63, base, source, offset)

    def store_half(self, base: int, offset: int, source: int) -> None:
        """16 bits at base + offset = the low half of source."""
        self._add(0x6B, base, source, offset)

    def set(self, target: int, value: int) -> None:
        self._add(0xB4, target, immediate=value)

    def copy(self, target: int, source: int) -> None:
        """Copy all 64 bits, for values that may be pointers."""
        self._add(0xBF, target, source)

    def copy_low(self, target: int, source: int) -> None:
        """Copy the low 32 bits; the others become zero."""
        self._add(0xBC, target, source)

    def add(self, target: int, value: int) -> None:
        self._add(0x04, target, immediate=value)

    def add_to_pointer(self, target: int, value: int) -> None:
        self._add(0x07, target, immediate=value)

    def mask(self, target: int, value: int) -> None:
        self._add(0x54, target, immediate=value)

    def swap_to_network(self, target: int, bits: int) -> None:
        """Convert between the machine's byte order and the network's, either way; drop the bits above `bits`."""
        self._add(0xDC, target, immediate=bits)

    def jump(self, label: str) -> None:
        self._add(0x05, label=label)

    def jump_if(self, register: int, test: Test, value: int, label: str) -> None:
        self._add(_TESTS[test], register, immediate=value, label=label)

    def jump_if_registers(self, register: int, test: Test, other: int, label: str) -> None:
        self._add(_TESTS[test] | _BY_REGISTER, register, other, label=label)

    def jump_if_null(self, pointer: int, label: str) -> None:
        self._add(0x15, pointer, label=label)

    def jump_if_beyond(self, pointer: int, end: int, label: str) -> None:
        self._add(0x2D, pointer, end, label=label)

    def call(self, helper: int) -> None:
        """Call a kernel helper. Register 0 gets its result; registers 1 to 5 are lost."""
        self._add(0x85, immediate=helper)

    def leave(self, value: int) -> None:
        """End the program with `value`."""
        self._add(0xB7, 0, immediate=value)
        self._add(0x95)

    def assemble(self) -> bytes:
        """Return the instructions in the kernel's encoding."""
        return b"".join(
            _INSTRUCTION.pack(
                code,
                registers,
                offset if label == _NO_JUMP else self._labels[label] - at - 1,
                immediate - (1 << 32) if immediate >= 1 << 31 else immediate,
            )
            for at, (code, registers, offset, immediate, label) in enumerate(self._code)
        )

    def _add(
        self, code: int, target: int = 0, source: int = 0, offset: int = 0, immediate: int = 0, label: str = _NO_JUMP
    ) -> None:
        self._code.append((code, target | source << 4, offset, immediate, label))


def load(kind: int, attach: int, name: str, code: bytes) -> int:
    """Load a program of type `kind` for the attach type `attach`; return its descriptor.

    `name` appears in bpftool (15 characters). Raises OSError; if the verifier refused the program, with the last three
    lines of its log.
    """
    instructions, licence = _buffer(code), _buffer(_LICENCE)

    def try_to_load(log: ctypes.Array[ctypes.c_char] | None) -> int:
        attributes = struct.pack(
            "=IIQQIIQII16sII",
            kind,
            len(code) // _INSTRUCTION.size,
            ctypes.addressof(instructions),
            ctypes.addressof(licence),
            0 if log is None else 1,
            0 if log is None else _LOG_SIZE,
            0 if log is None else ctypes.addressof(log),
            0,
            0,
            name.encode()[:15],
            0,
            attach,
        )
        return _bpf(_PROG_LOAD, attributes)

    try:
        return try_to_load(None)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise
        log = ctypes.create_string_buffer(_LOG_SIZE)
        try:
            return try_to_load(log)
        except OSError:
            words = log.value.decode(errors="replace").strip().splitlines()[-3:]
            raise OSError(error.errno, f"the kernel refuses the program {name}: {' / '.join(words)}") from error


def attach(program: int, target: int, attach_type: int) -> int:
    """Attach a program to an open cgroup directory; return the link's descriptor. Closing the link detaches it."""
    return _bpf(_LINK_CREATE, struct.pack("=IIII", program, target, attach_type, 0))


def attached(target: int, attach_type: int) -> Sequence[int]:
    """Return the ids of the programs attached to an open cgroup directory."""
    ids = (ctypes.c_uint32 * _MOST_QUERIED)()
    attributes = ctypes.create_string_buffer(
        struct.pack("=IIIIQI", target, attach_type, 0, 0, ctypes.addressof(ids), _MOST_QUERIED).ljust(64, b"\0"), 64
    )
    raw_syscall("bpf", _number(), _PROG_QUERY, attributes, 64)
    (count,) = struct.unpack_from("=I", attributes, 24)
    return list(ids[:count])


def _number() -> int:
    try:
        return _SYS_BPF[os.uname().machine]
    except KeyError:
        raise OSError(errno.ENOSYS, f"bpf(2) is not known for {os.uname().machine}") from None


def _buffer(data: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(data, len(data))


def _bpf(command: int, attributes: bytes) -> int:
    return raw_syscall("bpf", _number(), command, _buffer(attributes), len(attributes))
