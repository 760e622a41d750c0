"""The load while a part is killed: clients that call and deploy until they are stopped."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from itertools import cycle, product
from typing import Any

from matrix.client import Call, Client
from matrix.sharing import Sharing
from matrix.world import (
    COLD,
    DEPLOYED,
    GROWS,
    IMAGE,
    MANY,
    ROLLED,
    ROLLED_BACK,
    SCALED,
    SHRINKS,
    SPLIT,
    VICTIM,
    WARM,
    World,
    spec,
)

REST, STEADY, BURST, DEPLOYS = "at rest", "steady load", "burst of wakes", "deploys"
LOADS = (REST, STEADY, BURST, DEPLOYS)
SCALING, ROLLOUT, SHARING = "scaling out and in", "roll-outs", "a split, and rollbacks"
SCALING_CLIENTS = 4  # clients with GET, and as many with POST, for each function whose number of instances changes
SCALED_SECONDS = 0.15  # between two changes of the number of instances
OTHERS = "steady load and wakes"
LEAST_REVISIONS = 3  # deployments before the fault
LEAST_ROLLBACKS = 4  # before the fault, including the requests for the current revision
PAUSE = 0.03  # seconds between two calls of one client
LEAST_CALLS = 60  # calls before the fault
ARRIVAL = 0.03  # seconds until a call has surely reached its handler, where it stays for 0.1
EARLY_WAKES = 4  # wakes of a burst that end before the fault; the others are still in flight


class Load:
    """Runs the clients of one cell."""

    def __init__(self, world: World) -> None:
        self.calls: list[Call] = []
        self.lost: list[str] = []  # acknowledged changes that responses contradict
        self._sharing = Sharing(self.once, self.lost)
        self._acknowledged: list[tuple[float, int]] = []  # time and version of each acknowledged deployment
        self._world = world
        self._port = world.live.port
        self._settling = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._changes: asyncio.Task[None] | None = None  # the task that rolls back
        credentials = world.live.authorization()
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in credentials.items())

    async def start(self, kind: str) -> None:
        """Start the clients; return at the moment for the fault."""
        if kind == REST:
            return
        for name in WARM:
            for method in ("GET", "POST"):
                for kept in (True, False):
                    self._spawn(self._repeat(name, method, "warm", kept))
                self._spawn(self._repeat(name, method, "slow", kept=True, path="/slow"))
        await self._until(lambda: self._ended() >= LEAST_CALLS)
        moments = {
            STEADY: self._victim_becomes_busy,
            BURST: self._wake_all,
            DEPLOYS: self._redeploy_all,
            SCALING: self._scale,
            ROLLOUT: self._roll_out,
            SHARING: self._share,
            OTHERS: self._wake_in_turn,
        }
        await moments[kind]()

    async def _victim_becomes_busy(self) -> None:
        await self._until(self._victim_is_busy)

    async def _wake_all(self) -> None:
        for name in COLD:
            for method in ("GET", "POST"):
                self._spawn(self.once(Call(name, method, f"/function/{name}", "cold")))
        await self._until(lambda: self._ended("cold") >= EARLY_WAKES)

    async def _wake_in_turn(self) -> None:
        self._spawn(self._round(COLD))
        await self._until(lambda: self._ended("cold") >= EARLY_WAKES)

    async def _redeploy_all(self) -> None:
        for name in DEPLOYED:
            self._spawn(self._redeploy(name))
        await self._until(lambda: self._ended("system") >= len(DEPLOYED))
        await self._until(self._victim_is_busy)

    async def _scale(self) -> None:
        """Scale one function out and in. A second function loses instances with requests in flight, and a third one
        gets more requests than its single instance takes. Return when the third function's second instance starts."""
        for method in ("GET", "POST"):
            self._spawn(self._repeat(SCALED, method, "cold", kept=True))
            self._spawn(self._repeat(SCALED, method, "slow", kept=True, path="/slow"))
        self._spawn(self._rescale())
        await self._until(lambda: self._ended("system") >= 3)
        self._call_at_once(SHRINKS, "/slower")
        await self._until(lambda: self._under_way(SHRINKS) == 2 * SCALING_CLIENTS)
        await asyncio.to_thread(self._world.scale, SHRINKS, 1)
        self._call_at_once(GROWS, "/slow")
        await self._until(lambda: len(self._world.notes(GROWS)) > 1)

    async def _roll_out(self) -> None:
        """Deploy one revision after another of a function under load; return when one of them starts."""
        for method in ("GET", "POST"):
            self._spawn(self._repeat(ROLLED, method, "slow", kept=True))
            self._spawn(self._repeat(ROLLED, method, "slow", kept=True, path="/slow"))
        self._spawn(self._revise())
        await self._until(lambda: self._ended("system") >= LEAST_REVISIONS)
        await self._until(lambda: len(self._world.notes(ROLLED)) > 1)

    async def _share(self) -> None:
        """Change the traffic shares of a function's revisions a few times, then roll another function back and
        forth, both under load. Return when a rollback starts an instance."""
        for name, method in product((SPLIT, ROLLED_BACK), ("GET", "POST")):
            self._spawn(self._repeat(name, method, "slow", kept=True))
            self._spawn(self._repeat(name, method, "slow", kept=True, path="/slow"))
        await self._sharing.share_out()
        begun = self._ended("system")
        self._changes = self._spawn(self._sharing.roll_back(self._settling))
        await self._until(lambda: self._ended("system") >= begun + LEAST_ROLLBACKS)
        await self._until(lambda: len(self._world.notes(ROLLED_BACK)) > 1)

    async def check_changes(self) -> None:
        """Let rollbacks end and check that acknowledged changes hold."""
        if self._changes is not None:
            await self._changes
            await self._sharing.check()

    async def _rescale(self) -> None:
        """Scale out and in, each as soon as the other was acknowledged and has had a moment to begin."""
        for number in cycle((MANY, 1)):
            if self._settling.is_set():
                return
            call = Call("", "POST", f"/system/scale-function/{SCALED}", "system")
            await self.once(call, json.dumps({"serviceName": SCALED, "replicas": number}).encode())
            await asyncio.sleep(SCALED_SECONDS)

    async def _revise(self) -> None:
        """Deploy revisions; every second one is broken, and the platform must refuse it."""
        while not self._settling.is_set():
            if await self.deploy(ROLLED):
                self._acknowledged.append((time.monotonic(), self._world.versions[ROLLED]))
            await asyncio.sleep(PAUSE)
            await self.deploy(ROLLED, broken=True)
            await asyncio.sleep(PAUSE)

    def _note_older(self, call: Call) -> None:
        """Record a response from an older version than the one acknowledged before the call."""
        newest = max((version for at, version in self._acknowledged if at < call.begin), default=0)
        if not call.failed and int(call.body) < newest:
            self.lost.append(f"{call}: version {newest} was acknowledged and {call.body!r} answers")

    def _call_at_once(self, name: str, path: str) -> None:
        for method in ("GET", "POST"):
            for _ in range(SCALING_CLIENTS):
                self._spawn(self._repeat(name, method, "slow", kept=True, path=path))

    async def crowd(self, names: Sequence[str], clients: int, pause: float) -> None:
        """Start `clients` clients for each function, which rest for `pause` seconds between two calls."""
        for name in names:
            for number in range(clients):
                method = "POST" if number % 2 else "GET"
                self._spawn(self._repeat(name, method, "crowd", kept=False, pause=pause))

    async def more(self, count: int) -> None:
        """Wait for `count` more calls if there are clients."""
        if self._tasks:
            goal = self._ended() + count
            await self._until(lambda: self._ended() >= goal)

    def settle(self) -> None:
        """End scaling and roll-outs; calls continue."""
        self._settling.set()

    async def stop(self) -> None:
        """Let every client finish its call."""
        self.settle()
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    async def once(self, call: Call, body: bytes = b"") -> None:
        """Make one call on a new connection."""
        headers = self._headers if call.kind == "system" else ""
        client = Client(self._port, self.calls, kept=False, headers=headers)
        await client.send(call, body)

    async def deploy(self, name: str, *, broken: bool = False) -> bool:
        """Deploy a new version of a function. Return whether it was acknowledged, or refused if it is `broken`."""
        version = self._world.versions.get(name, 0) + 1
        call = Call("", "PUT", "/system/functions", "system", wanted="400" if broken else "2")
        deployment = {"service": name, "image": IMAGE, **spec(name, version, broken=broken)}
        await self.once(call, json.dumps(deployment).encode())
        # a failed deployment may still have been applied, so do not use its number again
        self._world.versions[name] = version
        return not call.failed

    # -- clients

    async def _repeat(
        self, name: str, method: str, kind: str, kept: bool, path: str = "", pause: float = PAUSE
    ) -> None:
        client = Client(self._port, self.calls, kept=kept)
        while not self._stopping.is_set():
            standing = self._sharing.standing(name)
            call = await client.send(Call(name, method, f"/function/{name}{path}", kind))
            if name == ROLLED:
                self._note_older(call)
            elif name in (SPLIT, ROLLED_BACK):
                self._sharing.note(call, standing)
            await asyncio.sleep(pause)
        client.close()

    async def _round(self, names: Sequence[str]) -> None:
        """Call one function after another, slowly enough that each has fallen asleep before its next turn."""
        for method, name in cycle(product(("GET", "POST"), names)):
            if self._stopping.is_set():
                return
            await self.once(Call(name, method, f"/function/{name}", "cold"))
            await asyncio.sleep(PAUSE)

    async def _redeploy(self, name: str) -> None:
        """Deploy repeatedly; an acknowledged version must answer the next call."""
        while not self._stopping.is_set():
            acknowledged = await self.deploy(name)
            call = Call(name, "GET", f"/function/{name}", "cold")
            await self.once(call)
            version = self._world.versions[name]
            if acknowledged and not call.failed and call.body != str(version).encode():
                self.lost.append(f"{name}: version {version} was acknowledged and {call.body!r} answers")

    # -- waiting

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._tasks.append(asyncio.create_task(work))
        return self._tasks[-1]

    def _victim_is_busy(self) -> bool:
        """Return whether the victim's handler has a GET and a POST."""
        arrived = time.monotonic() - ARRIVAL
        slow = [call for call in self.calls if call.kind == "slow" and call.function == VICTIM and not call.end]
        return {"GET", "POST"} <= {call.method for call in slow if 0 < call.begin < arrived}

    def _under_way(self, function: str) -> int:
        """Count the function's calls that have been in its handlers for a moment."""
        arrived = time.monotonic() - ARRIVAL
        return sum(1 for call in self.calls if call.function == function and not call.end and 0 < call.begin < arrived)

    def _ended(self, kind: str | None = None) -> int:
        return sum(1 for call in self.calls if call.end and kind in (None, call.kind))

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.002)
