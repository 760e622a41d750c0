"""Counted calls reach control once, whoever is killed or away meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from rescoldo.link.counts import MOST_FILES, CountsOutbox
from rescoldo.link.fake import MemoryControl
from rescoldo.link.protocol import Counts, Unreachable
from rescoldo.model.names import function_id
from rescoldo.store.protocol import MinuteUsage

pytestmark = pytest.mark.looptime

ROW = MinuteUsage(function_id("fn"), 100, 200, False, 1, 2, 3, 4, 5)


@asynccontextmanager
async def sending(folder: Path, control: MemoryControl) -> AsyncIterator[CountsOutbox]:
    outbox = CountsOutbox(folder, control)
    outbox.load()
    running = asyncio.create_task(outbox.run())
    try:
        yield outbox
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def calls(control: MemoryControl) -> int:
    return sum(row.calls for row in control.counted)


async def test_batches_are_sent_and_forgotten(tmp_path: Path) -> None:
    control = MemoryControl()
    async with sending(tmp_path / "counts", control) as outbox:
        for _ in range(3):
            outbox.add([ROW])
        await asyncio.sleep(0.1)
    assert calls(control) == 3
    assert list((tmp_path / "counts").iterdir()) == []


async def test_a_successor_sends_what_a_killed_process_has_left(tmp_path: Path) -> None:
    killed = CountsOutbox(tmp_path, MemoryControl())
    killed.load()
    for _ in range(3):
        killed.add([ROW])
    (tmp_path / "half.new").write_text('{"sender"')
    control = MemoryControl()
    async with sending(tmp_path, control) as outbox:
        outbox.add([ROW])
        await asyncio.sleep(0.1)
    assert calls(control) == 4
    assert list(tmp_path.iterdir()) == []


async def test_a_batch_whose_acknowledgement_was_lost_counts_once(tmp_path: Path) -> None:
    class Lossy(MemoryControl):
        lost = 2

        async def count(self, counts: Counts) -> None:
            await super().count(counts)
            if self.lost:
                self.lost -= 1
                raise Unreachable

    control = Lossy()
    async with sending(tmp_path, control) as outbox:
        outbox.add([ROW])
        await asyncio.sleep(5)
    assert calls(control) == 1


async def test_while_control_is_away_files_are_few_and_no_call_is_lost(tmp_path: Path) -> None:
    control = MemoryControl()
    control.leave()
    async with sending(tmp_path, control) as outbox:
        await asyncio.sleep(0.1)
        for number in range(2 * MOST_FILES):
            outbox.add([replace(ROW, minute=number % 7)])
        assert len(list(tmp_path.iterdir())) == MOST_FILES
        control.come_back()
        await asyncio.sleep(60)
    assert calls(control) == 2 * MOST_FILES


async def test_a_damaged_batch_does_not_hold_up_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a-1.json").write_text('{"sender": "a"}')
    (tmp_path / "b-1.json").write_text("no json")
    control = MemoryControl()
    async with sending(tmp_path, control) as outbox:
        outbox.add([ROW])
        await asyncio.sleep(0.1)
    assert calls(control) == 1
    assert caplog.text.count("are lost") == 2
