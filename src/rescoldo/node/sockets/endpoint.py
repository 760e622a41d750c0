"""How one instance takes requests: the plug-point `Endpoint`, with one object for each way.

| way | who binds | class |
|---|---|---|
| handlers, and programs with `upstream_url: inherited` | the node; its process is given the socket | `GivenSocket` |
| `upstream_url: unix` | the program, in a folder of its own | `ProgramSocket` |
| `upstream_url: http://127.0.0.1:PORT` | the program | `ProgramPort` |

`Endpoints` (endpoints.py) chooses. Where the node has a socket of its own there, the *backlog*, requests wait in it
while no process takes them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from rescoldo.model.names import FunctionId

BACKLOG = 1024  # connections that wait while an instance starts or is replaced

Probe = Callable[[], bool]


class Neighbour(Protocol):
    """Another instance of this node."""

    @property
    def function(self) -> FunctionId: ...

    @property
    def address(self) -> str: ...

    @property
    def is_leaving(self) -> bool:
        """Whether it takes no more requests: it is being stopped, has ended, or is lost."""
        ...

    @property
    def may_listen(self) -> bool:
        """Whether a process of it may be there, or come yet."""
        ...

    @property
    def may_bind_yet(self) -> bool:
        """Whether it starts, even if it is being stopped: it may bind its socket later."""
        ...


class Endpoint(Protocol):
    """One instance's. `make` and `adopt` come first, `put_away` last; it may be called more than once."""

    @property
    def address(self) -> str:
        """Where the edge connects: "unix@PATH" or "IP:PORT"."""
        ...

    @property
    def tcp(self) -> tuple[str, int] | None:
        """Host and port of a program at a TCP port; None for a Unix socket."""
        ...

    @property
    def foreseen(self) -> bool:
        """Whether the node's description (`instance_address`) tells clients the address before the start does."""
        ...

    @property
    def variables(self) -> Mapping[str, str]:
        """What the function's environment says of it."""
        ...

    @property
    def gives_folder(self) -> bool:
        """Whether `open_for_child` opens the folder for the program's socket."""
        ...

    @property
    def replaceable(self) -> bool:
        """Whether another process can take over here when this one has ended: the backlog is the very socket that the
        edge connects to. Otherwise the controller starts another instance."""
        ...

    @property
    def backlog(self) -> socket.socket | None:
        """The node's socket in which requests wait while no process takes them."""
        ...

    @property
    def backlog_address(self) -> str:
        """Where `backlog` listens."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether the edge can still connect: nobody has removed the socket's name."""
        ...

    def leavers(self, others: Iterable[Neighbour], *, successor: bool) -> list[Neighbour]:
        """The instances that are at this address and on their way out. `successor`: each other instance of the function
        is on its way out, whether or not the node has been told. Raises StartFailed where one stays."""
        ...

    def make(self) -> None:
        """Before the fork: bind what the node binds. Raises OSError, and leaves nothing then."""
        ...

    async def take_over(self, leavers: list[Neighbour]) -> float:
        """Before the fork, too: wait until `leavers` have let the address go; return how many seconds that took. Raises
        StartFailed where it is somebody else's, StartTimeout after the ready timeout."""
        ...

    def open_for_child(self) -> int:
        """A descriptor for the process, to be closed: its listening socket, the folder for the socket that it binds, or
        /dev/null. Raises OSError."""
        ...

    def probing(self) -> AbstractContextManager[Probe]:
        """Gives a function that says, without waiting, whether a program takes requests here."""
        ...

    def became_ready(self, pid: int) -> None:
        """The process serves."""
        ...

    def adopt(self, pid: int) -> None:
        """Instead of `make`: take back what a dead node held, as far as it can be had, from a process that serves."""
        ...

    def renew(self) -> bool:
        """The function has shut `backlog` down: bind another, if it is the node's to bind. Return whether requests
        reach the process all the same. Raises OSError; `backlog` is what it was then."""
        ...

    def put_away(self) -> None:
        """Close and remove all of it."""
        ...
