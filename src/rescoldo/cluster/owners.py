"""Reaches functions' owners through a gateway, which alone knows who owns what: it hashes the function's name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx2

from rescoldo import __version__
from rescoldo.cluster.protocol import Answered, Asked, NoOwner
from rescoldo.cluster.resting import no_owner

PATIENCE = 5.0  # seconds in which an owner must be reached
PAUSE = 0.2  # seconds between two attempts
CONNECT_SECONDS = 1.0
LONGEST = 660.0  # seconds for an answer to begin: a client may wait 600 for a deployment's start
FROM_WORKER = "x-rescoldo-worker"  # the gateway sets it in answers of workers


class GatewayOwners:
    """Implements `Owners`. `close` ends its connections."""

    def __init__(self, gateway: str, secret: Callable[[], str], *, patience: float = PATIENCE) -> None:
        """`gateway` is its URL; `secret` returns what control says to gateways now."""
        self._secret = secret
        self._patience = patience
        self._http = httpx2.AsyncClient(
            base_url=gateway,
            trust_env=False,
            timeout=httpx2.Timeout(LONGEST, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=256, max_keepalive_connections=16, keepalive_expiry=30),
            headers={"User-Agent": f"rescoldo-control/{__version__}"},
        )

    async def close(self) -> None:
        """End all connections."""
        await self._http.aclose()

    @asynccontextmanager
    async def ask(self, asked: Asked) -> AsyncIterator[Answered]:
        headers = {**asked.headers, "X-Rescoldo-Key": asked.function, "X-Rescoldo-Control": self._secret()}
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience
        while True:
            request = self._http.build_request(
                asked.method, "/-/owner" + asked.target, headers=headers, content=asked.body
            )
            try:
                answer = await self._http.send(request, stream=True)
            except httpx2.HTTPError as error:
                nobody, reason = False, f"the gateway cannot be reached: {error or type(error).__name__}"
            else:
                try:
                    if FROM_WORKER in answer.headers:
                        yield Answered(answer.status_code, dict(answer.headers), answer.aiter_raw())
                        return
                    nobody = answer.status_code == 404  # the gateway knows no worker of that namespace
                    reason = (await answer.aread()).decode(errors="replace").strip()[:200]
                finally:
                    await answer.aclose()
            if nobody or loop.time() + PAUSE > until:
                raise NoOwner(f"{no_owner(asked.function)} ({reason})")
            await asyncio.sleep(PAUSE)
