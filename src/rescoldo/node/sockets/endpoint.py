"""How one instance takes requests: the plug-point `Endpoint`, with one class for each way.

| way | binds the socket | class |
|---|---|---|
| handlers, and programs with `upstream_url: inherited` | the node, which passes it to the process | `GivenSocket` |
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

BACKLOG = 1024  # connections that can wait while an instance starts or its process is replaced

Probe = Callable[[], bool]


class Neighbour(Protocol):
    """Another instance of this node, as far as an endpoint needs to know it."""

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
        """Whether it has a process, or may still get one."""
        ...

    @property
    def may_bind_yet(self) -> bool:
        """Whether it is starting, even while a stop is under way: it may still bind its socket."""
        ...


class Endpoint(Protocol):
    """The endpoint of one instance. The node calls `make` or `adopt` first and `put_away` last, possibly more than
    once."""

    @property
    def address(self) -> str:
        """The address to which the edge connects: "unix@PATH" or "IP:PORT"."""
        ...

    @property
    def tcp(self) -> tuple[str, int] | None:
        """Host and port of a program at a TCP port; None for a Unix socket."""
        ...

    @property
    def foreseen(self) -> bool:
        """Whether clients know the address from the node's description (`instance_address`) before the start
        returns it."""
        ...

    @property
    def variables(self) -> Mapping[str, str]:
        """Environment variables that tell the function of its endpoint."""
        ...

    @property
    def gives_folder(self) -> bool:
        """Whether `open_for_child` opens the folder for the program's socket."""
        ...

    @property
    def replaceable(self) -> bool:
        """Whether another process can take over after this one's end: the edge connects to the backlog itself.
        Otherwise the controller starts another instance."""
        ...

    @property
    def backlog(self) -> socket.socket | None:
        """The node's socket in which requests wait while no process takes them; None where there is none."""
        ...

    @property
    def backlog_address(self) -> str:
        """The address at which `backlog` listens."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether the edge can still connect: the socket's name still exists."""
        ...

    def leavers(self, others: Iterable[Neighbour], *, successor: bool) -> list[Neighbour]:
        """The leaving instances at this address. `successor`: treat every other instance of the function as
        leaving, even if its stop has not reached the node yet. Raises StartFailed where an instance stays."""
        ...

    def make(self) -> None:
        """Bind the node's sockets, before the fork. Raises OSError; nothing is left then."""
        ...

    async def take_over(self, leavers: list[Neighbour]) -> float:
        """Wait, before the fork, until `leavers` have released the address; return how many seconds that took.
        Raises StartFailed where a stranger has the address, StartTimeout after the ready timeout."""
        ...

    def open_for_child(self) -> int:
        """A descriptor for the process: its listening socket, the folder for the socket that it binds, or
        /dev/null. The caller closes it. Raises OSError."""
        ...

    def probing(self) -> AbstractContextManager[Probe]:
        """A context with a probe: a function that returns, without waiting, whether a program takes requests here."""
        ...

    def became_ready(self, pid: int) -> None:
        """Handle that the process serves from now on."""
        ...

    def adopt(self, pid: int) -> None:
        """Regain a dead node's sockets from a serving process, as far as possible; replaces `make`."""
        ...

    def renew(self) -> bool:
        """Replace a backlog that the function has shut down, if the node binds it. Return whether requests reach
        the process all the same. Raises OSError; `backlog` stays the old socket then."""
        ...

    def put_away(self) -> None:
        """Close and remove everything of the endpoint."""
        ...
