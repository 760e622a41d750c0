from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from rescoldo.model.errors import Busy
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.node.output.logs import ROTATE_AT, LogBook
from rescoldo.node.wire import MAX_LINE, encode, encode_line

FN = FunctionId("fn.ns")
ONE = InstanceId("one")


async def texts(book: LogBook, tail: int | None = None, instance: str = "") -> list[str]:
    batches = book.read(FN, tail=tail, since=None, follow=False, instance=instance)
    return [line.text async for batch in batches for line in batch]


async def test_each_line_is_one_json_object(tmp_path: Path) -> None:
    book = LogBook(tmp_path)
    book.write(FN, ONE, ['hé"llo'])
    book.flush()
    (line,) = (tmp_path / "fn.ns.log").read_text().splitlines()
    entry = json.loads(line)
    assert (entry["i"], entry["x"], set(entry)) == ("one", 'hé"llo', {"t", "i", "x"})


async def test_at_most_two_files_of_one_mebibyte_keep_the_newest_lines(tmp_path: Path) -> None:
    book = LogBook(tmp_path)
    for number in range(400):
        book.write(FN, ONE, [f"{number:05}" + "x" * 10_000])
        book.flush()
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert set(sizes) <= {"fn.ns.log", "fn.ns.log.1"}
    assert all(size < ROTATE_AT + 11_000 for size in sizes.values())
    numbers = [int(text[:5]) for text in await texts(book)]
    assert numbers == list(range(numbers[0], 400))
    assert len(numbers) > 100


async def test_reading_skips_a_truncated_line(tmp_path: Path) -> None:
    (tmp_path / "fn.ns.log").write_text('{"t":1,"i":"one","x":"whole"}\n{"t":2,"i":"one"')
    assert await texts(LogBook(tmp_path)) == ["whole"]


async def test_a_slow_follower_loses_the_oldest_lines_and_gets_their_number(tmp_path: Path) -> None:
    book = LogBook(tmp_path)
    stream = book.read(FN, tail=0, since=None, follow=True, instance="")
    first = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    book.write(FN, ONE, ["a"])
    assert [line.text for line in await first] == ["a"]
    for number in range(600):
        book.write(FN, ONE, [str(number)])
    lines = [line.text for line in await anext(stream)]
    assert lines[0] == "… 88 lines left out: the client read too slowly"
    assert lines[1:] == [str(number) for number in range(88, 600)]
    await stream.aclose()


async def test_no_line_is_lost_or_repeated_between_kept_and_new_lines(tmp_path: Path) -> None:
    book = LogBook(tmp_path)
    for number in range(1000):
        book.write(FN, ONE, [str(number)])
    stream = book.read(FN, tail=None, since=None, follow=True, instance="")
    found = [line.text for line in await anext(stream)]
    for number in range(1000, 1100):  # while the kept lines are still being read
        book.write(FN, ONE, [str(number)])
    while len(found) < 1100:
        found += [line.text for line in await anext(stream)]
    assert found == [str(number) for number in range(1100)]
    await stream.aclose()


async def test_a_full_disk_is_logged_once_and_writing_continues_afterwards(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    book = LogBook(tmp_path / "later")
    for _ in range(3):
        book.write(FN, ONE, ["lost"])
        book.flush()
    assert len(caplog.records) == 1
    (tmp_path / "later").mkdir()
    book.write(FN, ONE, ["kept"])
    assert await texts(book) == ["kept"]


async def test_lines_pending_for_a_slow_follower_fit_into_a_message(tmp_path: Path) -> None:
    book = LogBook(tmp_path)
    stream = book.read(FN, tail=0, since=None, follow=True, instance="")
    first = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    book.write(FN, ONE, ["a"])
    await first
    book.write(FN, ONE, ["\x01" * 16384] * 500)
    lines = await anext(stream)
    assert "left out" in lines[0].text
    assert len(encode({"id": 0, "item": [encode_line(line) for line in lines]})) < MAX_LINE / 2
    await stream.aclose()


async def test_kept_lines_are_returned_in_batches_however_many_are_requested(tmp_path: Path) -> None:
    book = LogBook(tmp_path)
    book.write(FN, ONE, [""] * 5000)
    batches = [
        len(batch) async for batch in book.read(FN, tail=4000, since=None, follow=False, instance="")
    ]
    assert sum(batches) == 4000
    assert max(batches) <= 200


async def test_a_function_has_a_bounded_number_of_followers(tmp_path: Path) -> None:
    book = LogBook(tmp_path)
    book.write(FN, ONE, ["a"])
    streams = [book.read(FN, tail=None, since=None, follow=True, instance="") for _ in range(101)]
    for stream in streams[:100]:
        await anext(stream)
    with pytest.raises(Busy, match="100 clients already follow"):
        await anext(streams[100])
    for stream in streams:
        await stream.aclose()
    assert await texts(book) == ["a"]
