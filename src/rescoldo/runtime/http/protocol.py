"""What a connection and the server around it know of each other."""

from __future__ import annotations

import asyncio
from typing import Protocol

from rescoldo.model.instance import Launch
from rescoldo.runtime.calls.protocol import Client, Pending
from rescoldo.runtime.events import Request


class Visitor(Protocol):
    """A connection, as the server sees it."""

    def close_if_idle(self) -> None:
        """Close unless a request is being received or answered."""
        ...

    def cut_unless_called(self) -> None:
        """Close at once unless the handler is at work for it."""
        ...


class Service(Protocol):
    """The server, as a connection sees it."""

    launch: Launch
    loop: asyncio.AbstractEventLoop
    function: bytes  # the id of the only one that is served
    draining: bool  # every connection closes after its present answer

    def dispatch(self, client: Client, request: Request, *, fresh: bool) -> Pending | None:
        """Start a call that answers `client`; None if it is answered already. `fresh`: it is the connection's first."""
        ...

    def connection_came(self, connection: Visitor, transport: asyncio.Transport) -> None:
        """A client is there."""
        ...

    def connection_over(self, connection: Visitor) -> None:
        """The connection is lost or closed."""
        ...
