"""How a fork that has moved into its sandbox becomes an instance: it serves itself, or executes a program.

Which of the two, and what runs, is its kind's to say (`Kind.starter` in kinds/protocol.py). All of it is bound in the
zygote before the platform's modules are hidden.
"""

from __future__ import annotations

import gc
import os
import random
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TextIO

from rescoldo.isolation.syscalls import set_process_name
from rescoldo.model.instance import Launch
from rescoldo.model.names import split_id


class Starter(Protocol):
    """What forks of one kind become."""

    @property
    def rehearse(self) -> Callable[[], None]:
        """What a spare does while it waits, so that the pages it writes to are its own by then."""
        ...

    @property
    def imports(self) -> str:
        """The folder of a bundle that PYTHONPATH begins with; empty: the bundle itself."""
        ...

    def start(self, launch: Launch, environment: dict[str, str], listener: int, status: int) -> int:
        """Be the instance, whose bundle is the current directory; return its exit code.

        `environment` is all that it is to have, `listener` the descriptor of a listening socket (/dev/null where the
        instance binds its own), `status` a pipe that is told one JSON line: {"ready": true}, or {"error": "one line"}.
        An exec closes it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Starters:
    """What one zygote forks."""

    by_kind: Mapping[str, Starter]
    rehearsals: tuple[Callable[[], None], ...]  # of its spares


@dataclass(frozen=True, slots=True)
class InProcess:
    """Serves in the fork itself. Implements Starter."""

    run: Callable[[Launch, socket.socket, int], int]  # with the listening socket and the status pipe
    rehearse: Callable[[], None]
    imports: str = ""

    def start(self, launch: Launch, environment: dict[str, str], listener: int, status: int) -> int:
        # New ones: those of the zygote remember whether what they wrote to was a file or a terminal.
        sys.stdout, sys.stderr = open_stream(1), open_stream(2)
        set_process_name(split_id(launch.function)[0])
        os.environ.clear()
        os.environ.update(environment)
        # random reseeds itself after a fork when it was imported before; said again since all depends on it.
        random.seed()
        gc.enable()
        return self.run(launch, socket.socket(fileno=listener), status)


@dataclass(frozen=True, slots=True)
class Executed:
    """Another program in the fork's place: an exec leaves nothing of the interpreter. Implements Starter."""

    execute: Callable[[Launch, dict[str, str], int, int], int]  # as `start`
    rehearse: Callable[[], None]
    imports: str

    def start(self, launch: Launch, environment: dict[str, str], listener: int, status: int) -> int:
        return self.execute(launch, environment, listener, status)


def open_stream(descriptor: int) -> TextIO:
    """A text stream that writes each line at once, and any character."""
    return open(descriptor, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
