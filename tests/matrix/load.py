"""What is going on while a part is killed: clients that call and deploy until they are told to stop."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any

from matrix.client import Call, Client
from matrix.world import COLD, DEPLOYED, IMAGE, SCALED, VICTIM, WARM, World, spec

REST, STEADY, BURST, DEPLOYS, SCALING = "at rest", "steady load", "burst of wakes", "deploys", "scaling out and in"
LOADS = (REST, STEADY, BURST, DEPLOYS, SCALING)
MANY = 5  # instances between which and one a function is scaled
SCALED_SECONDS = 0.15  # with one number of instances
PAUSE = 0.03  # seconds between two calls of one client
LEAST_CALLS = 60  # before the fault
ARRIVAL = 0.03  # seconds after which a call is taken to be in its handler, where it stays for 0.1
EARLY_WAKES = 4  # of a burst, answered before the fault: the others are under way


class Load:
    """The clients of one cell."""

    def __init__(self, world: World) -> None:
        self.calls: list[Call] = []
        self.lost: list[str] = []  # acknowledged deployments that are not what answers
        self._world = world
        self._port = world.live.port
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        credentials = world.live.authorization()
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in credentials.items())

    async def start(self, kind: str) -> None:
        """Start the clients; return when the moment for the fault has come."""
        if kind == REST:
            return
        for name in WARM:
            for method in ("GET", "POST"):
                for kept in (True, False):
                    self._spawn(self._repeat(name, method, "warm", kept))
            self._spawn(self._repeat(name, "GET", "slow", kept=True))
            self._spawn(self._repeat(name, "POST", "slow", kept=True))
        if kind == DEPLOYS:
            for name in DEPLOYED:
                self._spawn(self._redeploy(name))
        if kind == SCALING:
            for method in ("GET", "POST"):
                self._spawn(self._repeat(SCALED, method, "cold", kept=True))
                self._spawn(self._repeat(SCALED, method, "slow", kept=True))
            self._spawn(self._rescale())
        await self._until(lambda: self._ended() >= LEAST_CALLS)
        if kind == DEPLOYS:
            await self._until(lambda: self._ended("system") >= len(DEPLOYED))
        if kind == SCALING:
            await self._until(lambda: self._ended("system") >= 3)
        if kind == BURST:
            for name in COLD:
                for method in ("GET", "POST"):
                    self._spawn(self.once(Call(name, method, f"/function/{name}", "cold")))
            await self._until(lambda: self._ended("cold") >= EARLY_WAKES)
        else:
            await self._until(self._victim_is_busy)

    async def more(self, count: int) -> None:
        """Wait for `count` calls more, where there are clients that make them."""
        if self._tasks:
            goal = self._ended() + count
            await self._until(lambda: self._ended() >= goal)

    async def stop(self) -> None:
        """Let every client finish its call."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    async def once(self, call: Call, body: bytes = b"") -> None:
        """One call on a connection of its own."""
        headers = self._headers if call.kind == "system" else ""
        client = Client(self._port, self.calls, kept=False, headers=headers)
        await client.send(call, body)

    async def deploy(self, name: str) -> bool:
        """Deploy a new version of a function; return whether that was acknowledged."""
        version = self._world.versions.get(name, 0) + 1
        call = Call("", "PUT", "/system/functions", "system")
        await self.once(call, json.dumps({"service": name, "image": IMAGE, **spec(name, version)}).encode())
        # one that failed may have been applied all the same: its number is not used again
        self._world.versions[name] = version
        return not call.failed

    # -- clients

    async def _repeat(self, name: str, method: str, kind: str, kept: bool) -> None:
        client = Client(self._port, self.calls, kept=kept)
        path = f"/function/{name}" + ("/slow" if kind == "slow" else "")
        while not self._stopping.is_set():
            await client.send(Call(name, method, path, kind))
            await asyncio.sleep(PAUSE)
        client.close()

    async def _redeploy(self, name: str) -> None:
        """Deploy again and again; what answers must never be older than what was acknowledged."""
        while not self._stopping.is_set():
            acknowledged = await self.deploy(name)
            call = Call(name, "GET", f"/function/{name}", "cold")
            await self.once(call)
            version = self._world.versions[name]
            if acknowledged and not call.failed and call.body != str(version).encode():
                self.lost.append(f"{name}: version {version} was acknowledged and {call.body!r} answers")

    async def _rescale(self) -> None:
        """Scale out and in, each as soon as the other was acknowledged and has had a moment to begin."""
        number = MANY
        while not self._stopping.is_set():
            call = Call("", "POST", f"/system/scale-function/{SCALED}", "system")
            await self.once(call, json.dumps({"serviceName": SCALED, "replicas": number}).encode())
            await asyncio.sleep(SCALED_SECONDS)
            number = 1 if number > 1 else MANY

    # -- waiting

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    def _victim_is_busy(self) -> bool:
        """Whether a GET and a POST are in its handler."""
        arrived = time.monotonic() - ARRIVAL
        slow = [call for call in self.calls if call.kind == "slow" and call.function == VICTIM and not call.end]
        return {"GET", "POST"} <= {call.method for call in slow if 0 < call.begin < arrived}

    def _ended(self, kind: str | None = None) -> int:
        return sum(1 for call in self.calls if call.end and kind in (None, call.kind))

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.002)
