"""Runs uvicorn in the controller's own event loop, on a socket that the supervisor owns."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator

import uvicorn
from fastapi import FastAPI

from rescoldo.tasks import set_within

GRACE = 3  # seconds for requests (uploads) to end before they are cancelled
KEEP_ALIVE = 75  # seconds; longer than the edge keeps an idle connection, so the edge closes first
MAX_CONNECTIONS = 1000  # followed logs are connections; above it 503
TICK = 1.0  # seconds between updates of the Date header


async def serve(app: FastAPI, sock: socket.socket, stop: asyncio.Event) -> None:
    """Serve `app` on `sock` (listening, AF_UNIX) until `stop` is set; then followed logs end at once and
    other requests get GRACE seconds.

    `sock` is closed at the end; the backlog of a duplicate elsewhere keeps queueing connections. No signal handlers are
    installed. The edge limits the size of headers; no other client can reach the socket.
    """
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,  # the edge logs
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )
    app.state.stop = stop
    await _Server(config, stop).serve(sockets=[sock])


class _Server(uvicorn.Server):
    """A server that an event stops. uvicorn's own polls ten times a second and catches signals."""

    def __init__(self, config: uvicorn.Config, stop: asyncio.Event) -> None:
        super().__init__(config)
        self._stop = stop

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def main_loop(self) -> None:
        while not self._stop.is_set():
            await self.on_tick(0)  # 0: at this count uvicorn renews the Date header
            await set_within(self._stop, TICK)
