"""Runs uvicorn in the controller's own event loop, on a socket that the supervisor owns."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rescoldo.tasks import set_within

GRACE = 3  # seconds for requests (uploads) to end before they are cancelled
KEEP_ALIVE = 75  # seconds; longer than the edge keeps an idle connection, so the edge closes first
MAX_CONNECTIONS = 1000  # followed logs are connections; above it 503
PEER_KEEP_ALIVE = 3660  # seconds; longer than a worker keeps an idle connection (link/client.py)
MOST_OF_GUEST = 8  # connections of one guest; a build needs one at a time
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


@dataclass(frozen=True, slots=True)
class MutualTls:
    """The files with which a server proves its name, and knows its clients (PEM)."""

    certificate: Path
    key: Path
    authority: Path  # that has signed the clients' certificates


class PeerServer:
    """Serves clients that have a certificate of an authority; `peer_uris` tells the application who asks."""

    def __init__(self, app: FastAPI, tls: MutualTls, guests: str = "") -> None:
        """A client with a URI that begins with `guests` may be hostile: it gets few connections, so that the others'
        are not all its own. Raises OSError for files that cannot be read."""
        self._tls = tls
        self._config = uvicorn.Config(
            app,
            http=partial(_PeerProtocol, guests=guests),  # type: ignore[arg-type]  # called as the class would be
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=PEER_KEEP_ALIVE,
            timeout_graceful_shutdown=GRACE,
            ssl_certfile=tls.certificate,
            ssl_keyfile=tls.key,
            ssl_ca_certs=str(tls.authority),
            ssl_cert_reqs=ssl.CERT_REQUIRED,
        )
        self._config.load()

    def renew(self) -> None:
        """Read the files again, for connections that come from now on. Raises OSError."""
        context = self._config.ssl
        assert context is not None
        context.load_cert_chain(self._tls.certificate, self._tls.key)
        context.load_verify_locations(self._tls.authority)

    async def serve(self, sock: socket.socket, stop: asyncio.Event) -> None:
        """Serve on `sock` (listening, AF_INET) until `stop` is set."""
        await _Server(self._config, stop).serve(sockets=[sock])


def peer_uris(request: Request) -> tuple[str, ...]:
    """The URIs that the certificate of a request's client names; empty without a certificate."""
    return tuple(getattr(request.state, "peer", ()))


class _PeerProtocol(HttpToolsProtocol):
    """Hands the names in the client's certificate to the application, which ASGI does not."""

    def __init__(self, *args: Any, guests: str, **more: Any) -> None:
        super().__init__(*args, **more)
        self._guests = guests

    def connection_made(self, transport: Any) -> None:
        names = (transport.get_extra_info("peercert") or {}).get("subjectAltName", ())
        peer = tuple(name for kind, name in names if kind == "URI")
        self.app_state = {**self.app_state, "peer": peer}
        super().connection_made(transport)
        if self._guests and any(name.startswith(self._guests) for name in peer):
            same = [one for one in self.connections if getattr(one, "app_state", {}).get("peer") == peer]
            if len(same) > MOST_OF_GUEST:
                transport.abort()


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
