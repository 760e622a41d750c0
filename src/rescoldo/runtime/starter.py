"""Turns a fork in its sandbox into an instance: it serves requests itself, or executes a program.

The fork's kind decides which, and what runs (`Kind.starter` in kinds/protocol.py). The zygote binds all of it before
it hides the platform's modules.
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
    """Starts instances of one kind in forks."""

    @property
    def rehearse(self) -> Callable[[], None]:
        """What a waiting spare runs, so that it already owns its copies of the pages that a wake writes to."""
        ...

    @property
    def imports(self) -> str:
        """The bundle's folder at the front of PYTHONPATH; empty: the bundle itself."""
        ...

    def start(self, launch: Launch, environment: dict[str, str], listener: int, status: int) -> int:
        """Be the instance, whose bundle is the current directory; return its exit code.

        `environment` is the instance's whole environment. `listener` is the descriptor of a listening socket
        (/dev/null if the instance binds its own). `status` is a pipe that takes one JSON line, {"ready": true} or
        {"error": "one line"}; an exec closes it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Starters:
    """The starters of one zygote."""

    by_kind: Mapping[str, Starter]
    rehearsals: tuple[Callable[[], None], ...]  # what its spares run while they wait


@dataclass(frozen=True, slots=True)
class InProcess:
    """Serves requests in the fork itself. Implements Starter."""

    run: Callable[[Launch, socket.socket, int], int]  # takes the launch, the listening socket and the status pipe
    rehearse: Callable[[], None]
    imports: str = ""

    def start(self, launch: Launch, environment: dict[str, str], listener: int, status: int) -> int:
        # New streams: the zygote's own remember whether they wrote to a file or a terminal.
        sys.stdout, sys.stderr = open_stream(1), open_stream(2)
        set_process_name(split_id(launch.function)[0])
        os.environ.clear()
        os.environ.update(environment)
        # random reseeds itself after a fork if it was imported before. Explicit here, because without it all instances
        # of a zygote would draw the same numbers.
        random.seed()
        gc.enable()  # the zygote has disabled it
        return self.run(launch, socket.socket(fileno=listener), status)


@dataclass(frozen=True, slots=True)
class Executed:
    """Executes another program in the fork's place; nothing of the interpreter remains. Implements Starter."""

    execute: Callable[[Launch, dict[str, str], int, int], int]  # as `start`
    rehearse: Callable[[], None]
    imports: str

    def start(self, launch: Launch, environment: dict[str, str], listener: int, status: int) -> int:
        return self.execute(launch, environment, listener, status)


def open_stream(descriptor: int) -> TextIO:
    """Return a text stream that flushes each line and escapes characters that it cannot encode."""
    return open(descriptor, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
