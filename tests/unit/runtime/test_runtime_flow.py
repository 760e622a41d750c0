"""Reading waits for answers, and streams wait for slow clients."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

import pytest

from rescoldo.runtime.http.flow import FlowControl


@dataclass
class FakeTransport:
    said: list[str] = field(default_factory=list)
    closing: bool = False

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.said.append("pause")

    def resume_reading(self) -> None:
        self.said.append("resume")


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
def flow(transport: FakeTransport) -> FlowControl:
    return FlowControl(cast(asyncio.Transport, transport))


def test_reading_pauses_once_while_requests_wait(flow: FlowControl, transport: FakeTransport) -> None:
    for behind in (False, True, True, False, False):
        flow.pace_reading(behind=behind)
    assert transport.said == ["pause", "resume"]


def test_reading_pauses_while_the_client_does_not_read_answers(flow: FlowControl, transport: FakeTransport) -> None:
    flow.pause_writing()
    flow.pace_reading(behind=False)
    flow.pace_reading(behind=True)
    flow.resume_writing()
    flow.pace_reading(behind=True)
    assert transport.said == ["pause"]
    flow.pace_reading(behind=False)
    assert transport.said == ["pause", "resume"]


def test_a_closing_transport_is_left_alone(flow: FlowControl, transport: FakeTransport) -> None:
    transport.closing = True
    flow.pace_reading(behind=True)
    assert transport.said == []


def test_a_stream_continues_when_the_client_reads_again(flow: FlowControl) -> None:
    said: list[str] = []
    flow.when_writable(lambda: said.append("at once"))
    flow.pause_writing()
    flow.when_writable(lambda: said.append("later"))
    assert said == ["at once"]
    flow.resume_writing()
    flow.resume_writing()
    assert said == ["at once", "later"]


def test_a_stream_does_not_wait_for_a_client_that_has_left(flow: FlowControl, transport: FakeTransport) -> None:
    flow.pause_writing()
    transport.closing = True
    said: list[str] = []
    flow.when_writable(lambda: said.append("at once"))
    assert said == ["at once"]
