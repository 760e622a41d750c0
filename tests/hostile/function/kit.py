"""The parts of attacks: their register, and tries that end in a refusal or a gain."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rescoldo.isolation.syscall_numbers import numbers

MARKER = "HOSTILE-MARKER"  # part of everything that belongs to the victim or the platform
MOST_READ = 65536
LIBC = ctypes.CDLL(None, use_errno=True)
_NUMBERS = numbers(os.uname().machine)

Target = dict[str, Any]  # the attacker's knowledge of its surroundings: everything, as in the worst case
Body = Callable[[Target, "Tries"], None]


class Tries:
    """Records an attack's tries in order."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self.gained: dict[str, str] = {}

    def get(self, what: str, action: Callable[[], object], *, only: Collection[int] = ()) -> None:
        """Try `action`: an OSError (with a number of `only`, if given) or an empty result is a refusal, anything
        else a gain."""
        try:
            got = action()
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, str(error))
            if only and error.errno not in only:
                self.gained[what] = f"it reached the kernel, which says {name}"
            else:
                self.refused[what] = name
            return
        if got:
            self.gained[what] = repr(got)[:300]
        else:
            self.refused[what] = "nothing there"

    def do(self, what: str, action: Callable[[], object], *, only: Collection[int] = ()) -> None:
        """Call `get` for an action whose mere success is a gain."""
        self.get(what, lambda: (action(), "done"), only=only)


@dataclass(frozen=True, slots=True)
class FunctionAttack:
    """An attack that a function makes."""

    name: str
    what: str  # its text in docs/attacks.md
    group: str
    unprivileged: bool  # whether the lower level promises to refuse it, too
    proven: bool  # whether the same code succeeds without protection; the tests prove it
    body: Body


ATTACKS: dict[str, FunctionAttack] = {}


def attack(what: str, *, unprivileged: bool = True, proven: bool = False) -> Callable[[Body], Body]:
    """Register the decorated function as an attack; its name and its module's name become the attack's name and
    group."""

    def register(body: Body) -> Body:
        group = body.__module__.rpartition(".")[2]
        ATTACKS[body.__name__] = FunctionAttack(body.__name__, what, group, unprivileged, proven, body)
        return body

    return register


def perform(name: str, target: Target) -> dict[str, Any]:
    """Make one attack in this process; return refusals and gains."""
    tries = Tries()
    try:
        ATTACKS[name].body(target, tries)
    except Exception as error:  # a bug of the suite must not count as a refusal
        tries.gained["the attack itself"] = f"failed: {error!r}"
    return {"refused": tries.refused, "gained": tries.gained}


def read(path: str | Path) -> str:
    """Return the beginning of a file, or the names in a folder."""
    if os.path.isdir(path):
        return " ".join(os.listdir(path))
    with open(path, "rb") as file:
        return file.read(MOST_READ).decode(errors="replace")


def write(path: str | Path, text: str = "hostile\n") -> None:
    """Write to a file; create it if necessary."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o666)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def libc(name: str, *arguments: object) -> int:
    """Call a function of libc by its name. Raises OSError if it returns -1."""
    function = getattr(LIBC, name)
    function.restype = ctypes.c_int
    return _checked(function(*arguments), name)


def syscall(name: str | int, *arguments: object) -> int:
    """Make a system call by its name or number. Raises OSError if it returns -1."""
    number = name if isinstance(name, int) else _NUMBERS[name]
    LIBC.syscall.restype = ctypes.c_long
    return _checked(LIBC.syscall(ctypes.c_long(number), *arguments), str(name))


def _checked(result: int, name: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return int(result)
