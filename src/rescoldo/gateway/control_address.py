"""Tells a gateway's HAProxy where control is, as often as its name may mean another address.

HAProxy resolves names once, when it starts; without an answer it starts all the same (`init-addr` in
gateway.cfg.tmpl), because calls of functions need no control. The name's present address comes from here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable

from rescoldo.gateway.proxy import Proxy
from rescoldo.model.errors import EdgeUnavailable
from rescoldo.tasks import set_within

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0  # between two questions
RETRY_SECONDS = 1.0  # without an answer
LONGEST = 5.0  # for an answer

Resolve = Callable[[str, int], Awaitable[str]]


async def resolve(host: str, port: int) -> str:
    """Return one address of a host. Raises OSError, TimeoutError."""
    async with asyncio.timeout(LONGEST):
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return str(found[0][4][0])


class ControlAddress:
    """Keeps HAProxy's address of control; `run` goes on until it is cancelled."""

    def __init__(self, control: str, proxy: Proxy, resolve: Resolve = resolve) -> None:
        """`control` is HOST:PORT."""
        host, _, port = control.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._proxy = proxy
        self._resolve = resolve
        self._started = asyncio.Event()

    def note_start(self) -> None:
        """A new process of HAProxy answers."""
        self._started.set()

    async def run(self) -> None:
        """Tell the present address, until cancelled. An address that is given as such never changes."""
        problem = ""
        while not _is_address(self._host):
            try:
                await self._proxy.set_control(await self._resolve(self._host, self._port), self._port)
                pause, problem = LOOK_SECONDS, ""
            except (OSError, EdgeUnavailable) as error:  # TimeoutError is an OSError
                pause = RETRY_SECONDS
                if str(error) != problem:
                    problem = str(error)
                    log.warning("control's address %s is not known: %s", self._host, problem or "no answer")
            await set_within(self._started, pause)
            self._started.clear()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
