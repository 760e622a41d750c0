"""Control asks owners to keep functions awake, again and again, and no slow one delays the others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from rescoldo.cluster.protocol import Answered, Asked, NoOwner
from rescoldo.cluster.renewals import PAUSE, Renewals
from rescoldo.model.names import FunctionId, function_id

pytestmark = pytest.mark.looptime
FN, OTHER = function_id("fn"), function_id("other", "blue")


class Owners:
    def __init__(self) -> None:
        self.asked: Counter[tuple[FunctionId, str]] = Counter()
        self.slow: set[FunctionId] = set()
        self.away: set[FunctionId] = set()

    @asynccontextmanager
    async def ask(self, asked: Asked) -> AsyncIterator[Answered]:
        self.asked[asked.function, f"{asked.method} {asked.target}"] += 1
        if asked.function in self.slow:
            await asyncio.sleep(3.5 * PAUSE)
        if asked.function in self.away:
            raise NoOwner("nobody")

        async def nothing() -> AsyncIterator[bytes]:
            return
            yield

        yield Answered(204, {}, nothing())


@asynccontextmanager
async def renewing(owners: Owners, kept: list[FunctionId]) -> AsyncIterator[None]:
    running = asyncio.create_task(Renewals(owners, lambda: kept).run())
    await asyncio.sleep(0)
    yield
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_owners_are_asked_every_ten_seconds() -> None:
    owners, kept = Owners(), [FN, OTHER]
    async with renewing(owners, kept):
        await asyncio.sleep(3.5 * PAUSE)
        assert owners.asked == {
            (FN, "POST /system/function/fn/keep?namespace=openfaas-fn"): 4,
            (OTHER, "POST /system/function/other/keep?namespace=blue"): 4,
        }
        kept.clear()
        await asyncio.sleep(3 * PAUSE)
        assert owners.asked.total() == 8


async def test_a_new_one_is_asked_for_within_a_second() -> None:
    owners, kept = Owners(), list[FunctionId]()
    async with renewing(owners, kept):
        await asyncio.sleep(PAUSE / 4)
        kept.append(FN)
        await asyncio.sleep(1.1)
        assert owners.asked.total() == 1


@pytest.mark.parametrize("trouble", ["slow", "away"])
async def test_one_that_does_not_answer_delays_no_other(trouble: str) -> None:
    owners = Owners()
    getattr(owners, trouble).add(FN)
    async with renewing(owners, [FN, OTHER]):
        await asyncio.sleep(6.5 * PAUSE)
    asked = {function: number for (function, _), number in owners.asked.items()}
    assert asked[OTHER] == 7
    assert asked[FN] == (2 if trouble == "slow" else 7)  # a request that is under way is not made once more
