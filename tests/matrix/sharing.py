"""Splits traffic and rolls back, one change after another, and checks that acknowledged changes hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from matrix.client import Call
from matrix.world import HALVES, REVISIONS, ROLLED_BACK, SPLIT

PAUSE = 0.05  # seconds between two changes
PATIENCE = 30.0  # seconds until both revisions must have answered
LOOK_SECONDS = 0.002
SPLITS = (HALVES, {"1": 20, "2": 80}, {"1": 80, "2": 20}, {"1": 45, "2": 55})

Once = Callable[[Call, bytes], Awaitable[None]]


class Sharing:
    """Changes splits and revisions. `once` makes a call; `lost` collects violations."""

    def __init__(self, once: Once, lost: list[str]) -> None:
        self._once = once
        self._lost = lost
        self._split: dict[str, int] = {}  # the last acknowledged split
        self._revision = 0  # the revision of the last acknowledged rollback
        self._seen: set[str] = set()  # versions that answered calls of the split function
        self._standing: tuple[int, str] | None = None  # revision and version that must answer; None during a rollback

    def standing(self, function: str) -> tuple[int, str] | None:
        """Return the revision that must answer a call of `function` that begins now. It is void if it changes
        before the call ends."""
        return self._standing if function == ROLLED_BACK else None

    def note(self, call: Call, standing: tuple[int, str] | None) -> None:
        """Check the response to a call of either function; `standing` is from the beginning of the call."""
        version = call.body.decode(errors="replace")
        if call.failed:
            return
        if call.function == SPLIT:
            self._seen.add(version)
        if version not in REVISIONS:
            self._lost.append(f"{call}: neither revision gives this answer")
        elif standing is not None and standing is self._standing and version != standing[1]:
            self._lost.append(f"{call}: revision {standing[0]} was acknowledged, whose answer is {standing[1]!r}")

    async def share_out(self) -> None:
        """Change the split of one function a few times; the split stays unchanged while a part is struck."""
        for shares in SPLITS:
            body = json.dumps({"traffic": shares}).encode()
            call = await self._system(Call("", "PUT", f"/system/function/{SPLIT}/traffic", "system"), body)
            assert not call.failed, str(call)
            self._split = shares
            await asyncio.sleep(PAUSE)

    async def roll_back(self, ending: asyncio.Event) -> None:
        """Roll the other function back and forth until `ending` is set and a rollback is acknowledged."""
        while self._standing is None or not ending.is_set():
            self._standing = None
            call = await self._system(Call("", "POST", f"/system/function/{ROLLED_BACK}/rollback", "system"))
            if not call.failed and (told := await self._told(f"/system/function/{ROLLED_BACK}")) is not None:
                before, self._revision = self._revision, json.loads(call.body)["revision"]
                if not before < self._revision == told["revision"]:
                    self._lost.append(f"{call}: it came after {before}, and the controller reports {told['revision']}")
                self._standing = self._revision, told["envVars"]["VERSION"]
            await asyncio.sleep(PAUSE)

    async def check(self) -> None:
        """Compare the acknowledged changes with the controller's final state, and wait until both revisions have
        answered."""
        self._seen.clear()
        try:
            async with asyncio.timeout(PATIENCE):
                while self._seen != {*REVISIONS}:
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            self._lost.append(f"only the revisions {sorted(self._seen)} of the split answer")
        listed = await self._told(f"/system/function/{SPLIT}/revisions")
        shares = {str(one["revision"]): one["traffic"] for one in listed or ()}
        if shares != self._split:
            self._lost.append(f"the split {self._split} was acknowledged, the controller reports {shares}")
        told = await self._told(f"/system/function/{ROLLED_BACK}")
        found = None if told is None else (told["revision"], told["envVars"]["VERSION"])
        if found != self._standing:
            self._lost.append(f"the rollback to {self._standing} was acknowledged, the controller reports {found}")

    async def _told(self, path: str) -> Any:
        """Return the controller's response; None if it does not answer."""
        call = await self._system(Call("", "GET", path, "system"))
        return None if call.failed else json.loads(call.body)

    async def _system(self, call: Call, body: bytes = b"") -> Call:
        await self._once(call, body)
        return call
