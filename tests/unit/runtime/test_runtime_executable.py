"""Why a file cannot be executed here."""

from __future__ import annotations

import platform
import shutil
import struct
import sys
from pathlib import Path

import pytest

from rescoldo.runtime.executable import why_not

OTHER = 183 if platform.machine() == "x86_64" else 62


def elf(machine: int, interpreter: str = "") -> bytes:
    """The head of a 64-bit little-endian program with at most one program header."""
    text = interpreter.encode() + b"\0"
    count = 1 if interpreter else 0
    fields = (2, machine, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", *fields)
    return head + struct.pack("<IIQQQQQQ", 3, 4, 64 + 56, 0, 0, len(text), len(text), 1) + text


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "server"
    path.write_bytes(b"")
    path.chmod(0o755)
    return path


HERE = 62 if platform.machine() == "x86_64" else 183


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (elf(OTHER), "is built for "),
        (elf(HERE, "/lib/ld-none.so.1"), "needs the loader /lib/ld-none.so.1"),
        (b"\x7fELF\x02\x01", "is a damaged program"),
        (b"#!/no/such/thing -x\n", "is a script for /no/such/thing, which is not on this machine"),
        (b"#!/bin/sh\f\necho\n", "is a script for /bin/sh\f, which is not on this machine"),
        (b"#!\n", "no interpreter"),
        (b"#! \t\n", "no interpreter"),
        (b"#!/bin/sh\r\necho\r\n", "carriage return"),
        (b"#!/bin/sh -e\r\necho\r\n", "carriage return"),
        (b"MZ\x90\0", "is a Windows program"),
        (b"\xcf\xfa\xed\xfe", "is a macOS program"),
        (b"print('hello')\n", "neither a Linux program nor a script"),
        (b"", "neither a Linux program nor a script"),
    ],
)
def test_a_file_that_cannot_run_gets_a_reason(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    assert message in str(why_not(file))


@pytest.mark.parametrize(
    "content", [elf(HERE), b"#!/bin/sh\necho\n", b"#! /bin/sh -e\n", b"#!\t/bin/sh\t-e\n", b"#!/bin/sh \t\n"]
)
def test_a_file_that_can_run_gets_no_reason(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert why_not(file) is None


def test_real_programs_get_no_reason() -> None:
    for program in (sys.executable, shutil.which("sh")):
        assert why_not(Path(str(program)).resolve()) is None


def test_a_missing_file_a_folder_and_a_file_without_permission_get_a_reason(file: Path, tmp_path: Path) -> None:
    assert why_not(tmp_path / "none") == "does not exist"
    assert why_not(tmp_path) == "is not a file"
    file.chmod(0o644)
    assert "chmod +x server" in str(why_not(file))


def test_a_program_for_an_unknown_machine_is_reported_with_the_machines_number(file: Path) -> None:
    file.write_bytes(elf(9999))
    assert "machine 9999" in str(why_not(file))
