"""A split that changes, and rollbacks, one after another, and whether what was acknowledged holds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from itertools import cycle
from typing import Any

from matrix.client import Call
from matrix.world import HALVES, REVISIONS, ROLLED_BACK, SPLIT

PAUSE = 0.05  # seconds between two changes
PATIENCE = 30.0  # seconds for both revisions to answer
LOOK_SECONDS = 0.002
SPLITS = ({"1": 20, "2": 80}, HALVES)

Once = Callable[[Call, bytes], Awaitable[None]]


class Sharing:
    """`once` makes a call; `lost` is told what should not be."""

    def __init__(self, once: Once, lost: list[str]) -> None:
        self._once = once
        self._lost = lost
        self._split: dict[str, int] | None = None  # the last that was acknowledged; None: one is under way
        self._seen: set[str] = set()  # what has answered calls of the function that is split
        self._standing: tuple[int, str] | None = None  # revision and version that calls go to; None: a rollback is on

    def standing(self, function: str) -> tuple[int, str] | None:
        """What must answer a call of `function` that begins now, unless it is something else when the call ends."""
        return self._standing if function == ROLLED_BACK else None

    def note(self, call: Call, standing: tuple[int, str] | None) -> None:
        """A call of either function has ended; `standing` is of its beginning."""
        version = call.body.decode(errors="replace")
        if call.failed:
            return
        if call.function == SPLIT:
            self._seen.add(version)
        if version not in REVISIONS:
            self._lost.append(f"{call}: neither revision answers so")
        elif standing is not None and standing is self._standing and version != standing[1]:
            self._lost.append(f"{call}: revision {standing[0]} was acknowledged, which answers {standing[1]!r}")

    async def share_out(self, ending: asyncio.Event) -> None:
        """Change the split of one function until the end has come, and is acknowledged to be in halves."""
        for shares in cycle(SPLITS):
            if self._split == HALVES and ending.is_set():
                return
            self._split = None
            body = json.dumps({"traffic": shares}).encode()
            call = await self._system(Call("", "PUT", f"/system/function/{SPLIT}/traffic", "system"), body)
            if not call.failed:
                self._split = dict(shares)
            await asyncio.sleep(PAUSE)

    async def roll_back(self, ending: asyncio.Event) -> None:
        """Roll the other one back and back again until the end has come, and one is acknowledged."""
        while self._standing is None or not ending.is_set():
            self._standing = None
            call = await self._system(Call("", "POST", f"/system/function/{ROLLED_BACK}/rollback", "system"))
            if not call.failed and (told := await self._told(f"/system/function/{ROLLED_BACK}")) is not None:
                revision = json.loads(call.body)["revision"]
                if told["revision"] != revision:
                    self._lost.append(f"{call}: revision {told['revision']} is told of instead of {revision}")
                self._standing = revision, told["envVars"]["VERSION"]
            await asyncio.sleep(PAUSE)

    async def check(self) -> None:
        """Compare what was acknowledged with what the controller tells in the end; let both revisions answer again."""
        self._seen.clear()
        async with asyncio.timeout(PATIENCE):
            while self._seen != {*REVISIONS}:
                await asyncio.sleep(LOOK_SECONDS)
        listed = await self._told(f"/system/function/{SPLIT}/revisions")
        shares = {str(one["revision"]): one["traffic"] for one in listed or ()}
        if shares != self._split:
            self._lost.append(f"the split {self._split} was acknowledged, {shares} is told of")
        told = await self._told(f"/system/function/{ROLLED_BACK}")
        found = None if told is None else (told["revision"], told["envVars"]["VERSION"])
        if found != self._standing:
            self._lost.append(f"the rollback to {self._standing} was acknowledged, {found} is told of")

    async def _told(self, path: str) -> Any:
        """What the controller tells; None where it does not answer."""
        call = await self._system(Call("", "GET", path, "system"))
        return None if call.failed else json.loads(call.body)

    async def _system(self, call: Call, body: bytes = b"") -> Call:
        await self._once(call, body)
        return call
