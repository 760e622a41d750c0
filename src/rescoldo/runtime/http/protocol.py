"""Interfaces between a connection and the server around it."""

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
        """Close at once unless a handler is at work for the connection."""
        ...


class Service(Protocol):
    """The server, as a connection sees it."""

    launch: Launch
    loop: asyncio.AbstractEventLoop
    function: bytes  # the id of the only function served
    draining: bool  # every connection closes after its current response

    def dispatch(self, client: Client, request: Request, *, fresh: bool) -> Pending | None:
        """Start a call that answers `client`; return None if it is answered already. `fresh` marks the connection's
        first request."""
        ...

    def connection_came(self, connection: Visitor, transport: asyncio.Transport) -> None:
        """Register a new connection."""
        ...

    def connection_over(self, connection: Visitor) -> None:
        """Deregister a connection that is lost or closed."""
        ...
