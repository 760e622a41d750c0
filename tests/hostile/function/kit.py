"""What attacks are made of: a register of them, and tries that end in a refusal or in something gained."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rescoldo.isolation.syscall_numbers import numbers

MARKER = "HOSTILE-MARKER"  # in all that is the victim's or the platform's own
MOST_READ = 65536
LIBC = ctypes.CDLL(None, use_errno=True)
_NUMBERS = numbers(os.uname().machine)

Target = dict[str, Any]  # what the attacker knows of its surroundings: all, as at the worst
Body = Callable[[Target, "Tries"], None]


class Tries:
    """What an attack tried, in order."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self.gained: dict[str, str] = {}

    def get(self, what: str, action: Callable[[], object], *, only: Collection[int] = ()) -> None:
        """Try `action`: an OSError (with a number of `only`, if any are given) or an empty result is a refusal,
        anything else is a gain."""
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
        """As `get`, where it is a gain that the call succeeds at all."""
        self.get(what, lambda: (action(), "done"), only=only)


@dataclass(frozen=True, slots=True)
class FunctionAttack:
    """An attack made by a function."""

    name: str
    what: str  # as docs/attacks.md says it
    group: str
    unprivileged: bool  # the lower level promises to refuse it, too
    proven: bool  # the same code succeeds where nothing stands in its way; the tests run it there
    body: Body


ATTACKS: dict[str, FunctionAttack] = {}


def attack(what: str, *, unprivileged: bool = True, proven: bool = False) -> Callable[[Body], Body]:
    """Register the function below as an attack; its name and its module's are the attack's name and group."""

    def register(body: Body) -> Body:
        group = body.__module__.rpartition(".")[2]
        ATTACKS[body.__name__] = FunctionAttack(body.__name__, what, group, unprivileged, proven, body)
        return body

    return register


def perform(name: str, target: Target) -> dict[str, Any]:
    """Do one attack here and now; return what was refused and what was gained."""
    tries = Tries()
    try:
        ATTACKS[name].body(target, tries)
    except Exception as error:  # a bug of the suite must not look like a refusal
        tries.gained["the attack itself"] = f"failed: {error!r}"
    return {"refused": tries.refused, "gained": tries.gained}


def read(path: str | Path) -> str:
    """The beginning of a file, or the names in a folder."""
    if os.path.isdir(path):
        return " ".join(os.listdir(path))
    with open(path, "rb") as file:
        return file.read(MOST_READ).decode(errors="replace")


def write(path: str | Path, text: str = "hostile\n") -> None:
    """Write to a file, which is made if need be."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o666)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def libc(name: str, *arguments: object) -> int:
    """A function of libc by its name; OSError when it returns -1."""
    function = getattr(LIBC, name)
    function.restype = ctypes.c_int
    return _checked(function(*arguments), name)


def syscall(name: str | int, *arguments: object) -> int:
    """A system call by its name (or number); OSError when it returns -1."""
    number = name if isinstance(name, int) else _NUMBERS[name]
    LIBC.syscall.restype = ctypes.c_long
    return _checked(LIBC.syscall(ctypes.c_long(number), *arguments), str(name))


def _checked(result: int, name: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return int(result)
