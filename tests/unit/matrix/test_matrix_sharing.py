"""The check of splits and rollbacks notices a wrong response, and a change that did not last."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from matrix.client import Call
from matrix.sharing import SPLITS, Sharing
from matrix.world import ROLLED_BACK, SPLIT

pytestmark = pytest.mark.looptime

ONE, TWO = {"revision": 3, "envVars": {"VERSION": "0"}}, {"revision": 4, "envVars": {"VERSION": "1"}}


class Platform:
    """Acknowledges every request, and reports the state that a test sets."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.rolled_back = 4  # the revision in the next rollback's response
        self.told: Any = TWO
        self.shares = SPLITS[-1]
        self.sharing = Sharing(self.once, self.lost)

    async def once(self, call: Call, body: bytes) -> None:
        call.outcome = "200"
        listed = [{"revision": int(number), "traffic": percent} for number, percent in self.shares.items()]
        if call.method == "POST":
            call.body = json.dumps({"revision": self.rolled_back}).encode()
        elif call.method == "GET":
            call.body = json.dumps(listed if call.path.endswith("revisions") else self.told).encode()

    async def begin(self) -> None:
        """Have a split and a rollback acknowledged."""
        await self.sharing.share_out()
        await self.roll_back()

    async def roll_back(self) -> None:
        """Roll back once."""
        ending = asyncio.Event()
        rolling = asyncio.create_task(self.sharing.roll_back(ending))
        await asyncio.sleep(0)
        ending.set()
        await rolling

    def answer(self, name: str, text: str) -> None:
        call = Call(name, "GET", f"/function/{name}", "slow", outcome="200", body=text.encode())
        self.sharing.note(call, self.sharing.standing(name))

    async def check(self) -> None:
        """Check while both revisions answer."""
        checking = asyncio.create_task(self.sharing.check())
        await asyncio.sleep(0)
        for text in "01":
            self.answer(SPLIT, text)
        await checking


@pytest.fixture
async def platform() -> Platform:
    made = Platform()
    await made.begin()
    return made


async def test_responses_of_the_acknowledged_revisions_are_no_loss(platform: Platform) -> None:
    platform.answer(ROLLED_BACK, "1")
    await platform.check()
    assert platform.lost == []


async def test_a_response_of_another_revision_is_noticed(platform: Platform) -> None:
    platform.answer(ROLLED_BACK, "0")
    platform.answer(SPLIT, "7")
    assert len(platform.lost) == 2
    assert "revision 4 was acknowledged" in platform.lost[0] and "neither revision" in platform.lost[1]


async def test_during_a_rollback_either_revision_may_answer(platform: Platform) -> None:
    before = platform.sharing.standing(ROLLED_BACK)
    platform.rolled_back, platform.told = 5, {**ONE, "revision": 5}
    await platform.roll_back()
    call = Call(ROLLED_BACK, "GET", "/", "slow", outcome="200", body=b"0")
    platform.sharing.note(call, before)
    assert platform.lost == []


async def test_a_rollback_that_did_not_last_is_noticed(platform: Platform) -> None:
    platform.told = ONE
    await platform.check()
    assert ["the rollback to (4, '1') was acknowledged" in text for text in platform.lost] == [True]


async def test_a_rollback_that_reuses_a_number_is_noticed(platform: Platform) -> None:
    await platform.roll_back()
    assert ["it came after 4" in text for text in platform.lost] == [True]


async def test_a_split_that_did_not_last_and_a_silent_revision_are_noticed(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("matrix.sharing.PATIENCE", 0.1)
    platform.shares = {"2": 100}
    await platform.sharing.check()
    assert ["revisions [] of the split" in platform.lost[0], "reports {'2': 100}" in platform.lost[1]] == [True, True]
