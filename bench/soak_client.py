"""Calls, deploys, removes, puts to sleep and kills functions at random until the time is over. soak.py runs it;
JSON in, JSON out.

A kill of an instance explains the failure of its function's calls in flight; all other failures count as errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import paths  # noqa: F401  first of ours: the rest needs what it makes importable
from callers import report, request
from matrix.client import Call, Client
from rescoldo.node.instances import notes

CALLERS = 2  # of each function; one of them keeps its connection
PAUSE = 0.8  # maximum seconds between two calls of a caller: often longer than an idle window
DEPLOY_PAUSE, SLEEP_PAUSE, KILL_PAUSE, COME_PAUSE = 0.5, 0.5, 1.0, 0.5
SLACK = 0.1  # seconds by which a call may begin after the kill and still fail from it
KEPT = 10  # errors that are reported in full


@dataclass(slots=True)
class Seen:
    calls: int = 0
    starts: int = 0  # instances that answered
    deploys: int = 0
    removes: int = 0
    sleeps: int = 0  # requested ones
    kills: int = 0
    explained: int = 0  # failed calls during which an instance of their function was killed
    error_count: int = 0
    errors: list[str] = field(default_factory=list)  # the first of them


class Soak:
    def __init__(self, asked: dict[str, object]) -> None:
        self._port = int(str(asked["port"]))
        self._image = str(asked["image"])
        self._window = str(asked["window"])
        self._headers = str(asked["headers"])
        self._notes = Path(str(asked["notes"]))
        self._until = time.monotonic() + float(str(asked["seconds"]))
        self._random = random.Random(int(str(asked["seed"])))
        self._versions: dict[str, int] = {}  # last acknowledged version by function
        self._killed: dict[str, list[float]] = {}  # times of kills by function
        self._instances: set[str] = set()
        self.seen = Seen()

    async def run(self, steady: list[str], changed: list[str], struck: list[str], comers: list[str]) -> None:
        """Call all functions and put them to sleep; also deploy `changed` again, kill instances of `struck`, and
        deploy and remove `comers`. `steady` get nothing else."""
        called = [*steady, *changed, *struck]
        async with asyncio.TaskGroup() as group:
            for name in called:
                for number in range(CALLERS):
                    group.create_task(self._call(name, kept=number % 2 == 0))
            for name in comers:
                group.create_task(self._come_and_go(name))
            group.create_task(self._redeploy(changed))
            group.create_task(self._put_to_sleep(called))
            group.create_task(self._kill(struck))
        self.seen.starts = len(self._instances)

    async def _call(self, name: str, *, kept: bool) -> None:
        client = Client(self._port, [], kept=kept)
        async for _ in self._again(PAUSE):
            least = self._versions.get(name, 0)
            call = await self._send(client, Call(name, self._random.choice(("GET", "POST")), f"/function/{name}", ""))
            self._check(call, name, least)
        client.close()

    async def _come_and_go(self, name: str) -> None:
        client = Client(self._port, [], kept=False)
        async for _ in self._again(COME_PAUSE):
            await self._deploy(name)
            call = await self._send(client, Call(name, "GET", f"/function/{name}", ""))
            self._check(call, name, self._versions[name])
            await self._system("DELETE", "/system/functions", {"functionName": name})
            self.seen.removes += 1
            gone = await self._send(client, Call(name, "GET", f"/function/{name}", ""))
            if gone.outcome != "404":
                self._wrong(f"after its removal: {gone}")

    async def _redeploy(self, names: list[str]) -> None:
        async for _ in self._again(DEPLOY_PAUSE):
            await self._deploy(self._random.choice(names))

    async def _put_to_sleep(self, names: list[str]) -> None:
        async for _ in self._again(SLEEP_PAUSE):
            name = self._random.choice(names)
            await self._system("POST", f"/system/scale-function/{name}", {"serviceName": name, "replicas": 0})
            self.seen.sleeps += 1

    async def _kill(self, names: list[str]) -> None:
        async for _ in self._again(KILL_PAUSE):
            found = [note for _, note in notes.read_all(self._notes) if note is not None and note.ready and note.pid]
            known = [(note.launch.function.partition(".")[0], note.pid) for note in found]
            if not (victims := [(name, pid) for name, pid in known if name in names]):
                continue
            name, pid = self._random.choice(victims)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self._killed.setdefault(name, []).append(time.monotonic())
                self.seen.kills += 1

    async def _deploy(self, name: str) -> None:
        version = self._versions.get(name, 0) + 1
        spec = {
            "service": name, "image": self._image, "envVars": {"WHO": name, "VERSION": str(version)},
            "annotations": {"rescoldo.dev/idle-window": self._window},
        }  # fmt: skip
        await self._system("POST", "/system/functions", spec)
        self._versions[name] = version
        self.seen.deploys += 1

    async def _system(self, method: str, path: str, body: dict[str, object]) -> None:
        client = Client(self._port, [], kept=False, headers=self._headers)
        call = await client.send(Call("", method, path, "system"), json.dumps(body).encode())
        if call.failed:
            self._wrong(str(call))

    async def _send(self, client: Client, call: Call) -> Call:
        self.seen.calls += 1
        return await client.send(call)

    def _check(self, call: Call, name: str, least: int) -> None:
        """Check that the function itself answered, with no version older than the one acknowledged before the call."""
        if call.failed:
            if any(call.begin - SLACK <= at <= call.end for at in self._killed.get(name, ())):
                self.seen.explained += 1
            else:
                self._wrong(str(call))
            return
        who, version, instance = call.body.decode().split()
        self._instances.add(instance)
        if who != name or int(version) < least:
            self._wrong(f"{call}: expected {name} of version {least} or later")

    def _wrong(self, text: str) -> None:
        self.seen.error_count += 1
        if len(self.seen.errors) < KEPT:
            self.seen.errors.append(text)

    async def _again(self, pause: float) -> AsyncIterator[None]:
        """Yield after each random pause of up to `pause` seconds (the pauses are the load) until the time is over."""
        while time.monotonic() < self._until:
            await asyncio.sleep(self._random.uniform(0, pause))
            yield


if __name__ == "__main__":
    asked = request()
    soak = Soak(asked)
    asyncio.run(soak.run(asked["steady"], asked["changed"], asked["struck"], asked["comers"]))
    report(asdict(soak.seen))
