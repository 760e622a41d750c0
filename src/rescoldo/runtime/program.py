"""Starts the program of an instance with its own HTTP server: an exec replaces the zygote's fork, inside its
isolation, with no process in front of it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from rescoldo.isolation.landlock import pins
from rescoldo.isolation.syscalls import close_all_but
from rescoldo.model.errors import StartFailed
from rescoldo.model.instance import Launch
from rescoldo.model.program import INHERITED
from rescoldo.runtime.executable import why_not

FOLDER = "function"  # the bundle's folder with the program, and its working directory
LISTEN_DESCRIPTOR = 3  # sd_listen_fds(3): the first descriptor handed over
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores them from its start; an exec would pass that on


def rehearse() -> None:
    """Write to the pages that `execute` will write to, so that a waiting spare already owns its copies."""
    with suppress(StartFailed):
        _find("rehearsal", "/")
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.getsignal(number))
    with suppress(OSError):
        os.execve("/rehearsal/nothing", ("rehearsal",), {"rehearsal": "here"})


def execute(launch: Launch, environment: dict[str, str], listener: int, status: int) -> int:
    """Become the program of `launch`, whose bundle is the current directory; return 1 if that fails.

    `listener` is the descriptor of a listening socket, for a program that takes one over. `status` is a pipe. The exec
    closes it, which tells the node that the program runs; a failure before that writes {"error": "one line"} as JSON.
    """
    try:
        os.chdir(FOLDER)
        _exec(launch, environment, listener, status)
    except (StartFailed, OSError) as error:
        message = error.message if isinstance(error, StartFailed) else str(error)
        os.write(2, f"rescoldo: {message}\n".encode(errors="backslashreplace"))
        with suppress(OSError):  # the node is gone
            os.write(_moved(status), json.dumps({"error": message}).encode() + b"\n")
        return 1


def _exec(launch: Launch, environment: dict[str, str], listener: int, status: int) -> NoReturn:
    if launch.port:
        environment.setdefault("PORT", str(launch.port))
    file = _find(launch.command[0], environment.get("PATH", os.defpath))
    if launch.upstream == INHERITED:
        status = _moved(status)
        os.dup2(listener, LISTEN_DESCRIPTOR)
        os.set_inheritable(LISTEN_DESCRIPTOR, True)  # dup2 does nothing if the socket had that number already
        environment |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "http"}
        close_all_but({LISTEN_DESCRIPTOR, status, *pins()})
    else:
        close_all_but({status, *pins()})
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(file, launch.command, environment)
    except OSError as error:
        if error.errno == errno.E2BIG:
            raise StartFailed("the function's environment is too large for a program") from error
        trouble = why_not(Path(file)) or f"cannot be executed: {error.strerror}"
        raise StartFailed(f"fprocess: {launch.command[0]} {trouble}") from error


def _moved(status: int) -> int:
    """Return `status`, moved off the number that a handed-over socket needs. An exec still closes it."""
    if status != LISTEN_DESCRIPTOR:
        return status
    return fcntl.fcntl(status, fcntl.F_DUPFD_CLOEXEC, LISTEN_DESCRIPTOR + 1)


def _find(name: str, path: str) -> str:
    """Return the file that a command names: in the current directory (the bundle's folder), else on PATH."""
    if "/" in name:
        return name
    if os.path.exists(name):  # noqa: PTH110 - pathlib costs a fresh fork 60 page faults
        return f"./{name}"
    for folder in path.split(":"):
        if os.access(f"{folder}/{name}", os.X_OK):
            return f"{folder}/{name}"
    raise StartFailed(f"fprocess: {name} is neither in the bundle nor on PATH ({path[:200]})")
