"""Functions' lines on standard output: one JSON object a line, and a reader that is slow or gone."""

from __future__ import annotations

import json
import logging
import os
import select
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.node.output import printer
from rescoldo.node.output.printer import MOST_WAITING, PIECE, PRINTED, Printer

FN, ONE = FunctionId("fn.blue"), InstanceId("fn-1")  # type: ignore[arg-type]
NOW = 1795413920.25


@dataclass
class Piped:
    printer: Printer
    reader: int

    def add(self, *texts: str) -> None:
        self.printer.add(FN, ONE, NOW, texts)

    def rest(self) -> list[dict[str, Any]]:
        """Everything until the printer has written all and is closed."""
        found = b""
        while select.select([self.reader], [], [], 0.05)[0] or self.printer._thread.is_alive():
            if select.select([self.reader], [], [], 0.05)[0]:
                found += os.read(self.reader, 65536)
        return [json.loads(line) for line in found.splitlines()]


@pytest.fixture
def piped() -> Iterator[Piped]:
    reader, writer = os.pipe()
    made = Piped(Printer(writer), reader)
    yield made
    made.printer.close()
    os.close(reader)
    os.close(writer)


def test_each_line_is_one_object_with_its_origin(piped: Piped) -> None:
    piped.add('hé"llo\u2028', "", "\x1b[2J")
    piped.printer.close()
    origin = {"time": "2026-11-23T06:05:20.250000Z", "namespace": "blue", "function": "fn", "instance": "fn-1"}
    assert piped.rest() == [{**origin, "line": text} for text in ('hé"llo\u2028', "", "\x1b[2J")]


def test_a_long_line_comes_in_pieces_that_are_written_at_once(piped: Piped) -> None:
    text = "x" * (2 * PIECE + 1)
    piped.add(text)
    piped.printer.close()
    found = piped.rest()
    assert [len(line["line"]) for line in found] == [PIECE, PIECE, 1]
    assert all(len(json.dumps(line)) < select.PIPE_BUF for line in found)


def test_writes_hold_whole_lines_of_at_most_what_a_pipe_takes_at_once(
    piped: Piped, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    monkeypatch.setattr(printer, "_write", lambda _, data: written.append(data))
    piped.add(*("x" * (number % 700) for number in range(1000)))
    piped.printer.close()
    piped.printer._thread.join()
    assert all(chunk.endswith(b"\n") and len(chunk) <= select.PIPE_BUF for chunk in written)
    assert sum(chunk.count(b"\n") for chunk in written) == 1000
    assert len(written) < 300


def test_a_reader_that_does_not_read_costs_lines_and_no_time(piped: Piped) -> None:
    text = "x" * 1000
    many = 3 * MOST_WAITING // len(text)
    for _ in range(many):
        piped.add(text)  # never waits: the test would hang
    assert piped.printer._size < MOST_WAITING + 2 * len(text)
    while piped.printer._size:
        os.read(piped.reader, 65536)
    piped.add("later")
    piped.printer.close(0)
    *_, told, later = piped.rest()
    assert later["line"] == "later"
    assert told["line"].endswith("lines of functions left out: standard output was read too slowly")
    assert 0 < int(told["line"].split()[1]) < many


def test_a_reader_that_is_gone_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    made = Printer(writer)
    with caplog.at_level(logging.WARNING):
        made.add(FN, ONE, NOW, ["a"])
        made._thread.join(10)
        made.add(FN, ONE, NOW, ["b"])
        made.close()
    assert [record.getMessage() for record in caplog.records] == [
        "functions' lines are not printed any more: Broken pipe"
    ]
    assert made._size == 0, "what nobody reads is not gathered"
    os.close(writer)


def test_the_supervisors_descriptor_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Printer.inherited() is None
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    monkeypatch.setenv(PRINTED, str(writer))
    made = Printer.inherited()
    assert made is not None and not os.get_inheritable(writer)
    assert PRINTED not in os.environ
    made.close()
    for descriptor in (reader, writer):
        os.close(descriptor)
