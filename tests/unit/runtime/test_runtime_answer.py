"""A call gets exactly one answer, whatever its handler, its deadline and its client do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rescoldo.model.instance import Launch
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.runtime.calls import answer as subject
from rescoldo.runtime.calls.answer import Answer
from rescoldo.runtime.calls.protocol import Host
from rescoldo.runtime.results import Response

MOST = 10  # bytes of an answer
OK = Response(200, b"", b"ok")


@dataclass
class FakeClient:
    """Implements Client; `said` records what it received."""

    said: list[object] = field(default_factory=list)
    wants_body: bool = True
    gone: bool = False

    def answer(self, response: Response, seconds: float) -> None:
        self.said.append(response.status)

    def answer_at_once(self, response: Response, seconds: float) -> None:
        self.said.append(("at once", response.status))

    def begin(self, response: Response, seconds: float) -> bool:
        self.said.append("begin")
        return self.wants_body

    def send(self, data: bytes) -> None:
        self.said.append(data)

    def end(self) -> None:
        self.said.append("end")

    def abort(self) -> None:
        self.said.append("abort")

    def when_writable(self, callback: Callable[[], None]) -> None:
        callback()

    def has_left(self) -> bool:
        return self.gone


@dataclass
class World:
    client: FakeClient = field(default_factory=FakeClient)
    over: list[str] = field(default_factory=list)  # one entry each time that the answer reported its end

    def answer(self, *, doubtful: bool = False) -> Answer:
        launch = Launch(InstanceId("i"), FunctionId("f.n"), "", max_response=MOST)
        host = cast(Host, SimpleNamespace(launch=launch, root="/"))
        return Answer(host, self.client, lambda: self.over.append("over"), doubtful=doubtful)


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines written to the function's log."""
    lines: list[str] = []
    monkeypatch.setattr(subject, "JOURNAL", SimpleNamespace(say=lines.append))
    return lines


def expire(answer: Answer) -> None:
    """Expire an answer as Call does."""
    if not answer.over:
        answer.close()
        answer.expire(1.0)


STEPS: dict[str, Callable[[Answer], object]] = {
    "whole": lambda answer: answer.send_returned(OK, b"ok"),
    "too large": lambda answer: answer.send_returned(OK, b"x" * (MOST + 1)),
    "piece": lambda answer: answer.push(OK, b"1234"),
    "exhausted": lambda answer: answer.exhausted(OK),
    "raised": lambda answer: answer.failed(ValueError("v"))(),
    "deadline": expire,
    "client left": lambda answer: setattr(answer, "left", True),
}


ANY = ["raised", "deadline", "client left"]
WHOLE = st.lists(st.sampled_from([*ANY, "whole", "too large"]), max_size=8)
STREAM = st.lists(st.sampled_from([*ANY, "piece", "exhausted"]), max_size=8)


@given(steps=WHOLE | STREAM)
def test_any_sequence_of_events_gives_one_answer_and_nothing_after_it(steps: list[str]) -> None:
    world = World()
    answer = world.answer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "JOURNAL", SimpleNamespace(say=lambda text: None))
        for step in steps:
            STEPS[step](answer)
    said = world.client.said
    ends = [word for word in said if word in ("end", "abort") or isinstance(word, int)]
    assert len(world.over) == answer.over
    assert said.count("begin") <= 1
    assert ends in ([], said[-1:])  # nothing follows the end
    assert not (ends and not answer.over)


@pytest.mark.parametrize(
    ("steps", "said", "logged"),
    [
        (["whole"], [200], ""),
        (["too large"], [413], "a response of 11 bytes is larger than the 10 bytes allowed"),
        (["piece", "piece", "piece"], ["begin", b"1234", b"1234", "abort"], "a streamed response was cut"),
        (["piece", "exhausted"], ["begin", b"1234", "end"], ""),
        (["exhausted"], [200], ""),
        (["raised"], [500], "ValueError: v"),
        (["piece", "raised"], ["begin", b"1234", "abort"], "ValueError: v"),
        (["deadline"], [504], ""),
        (["piece", "deadline"], ["begin", b"1234", "abort"], ""),
        (["piece", "exhausted", "raised"], ["begin", b"1234", "end"], "ValueError: v"),
        (["whole", "deadline", "raised"], [200], "ValueError: v"),
        (["deadline", "piece", "whole"], [504], ""),
        (["client left", "whole"], [], ""),
        (["client left", "piece"], [], ""),
    ],
)
def test_the_first_outcome_decides_the_answer(
    journal: list[str], steps: list[str], said: list[object], logged: str
) -> None:
    world = World()
    answer = world.answer()
    for step in steps:
        STEPS[step](answer)
    assert (world.client.said, world.over) == (said, ["over"])
    assert logged in "".join(journal)
    assert bool(logged) == bool(journal)


def test_a_client_that_wants_no_body_gets_only_the_head_of_a_stream() -> None:
    world = World(FakeClient(wants_body=False))
    assert not world.answer().push(OK, b"1234")
    assert (world.client.said, world.over) == (["begin", "end"], ["over"])


def test_only_a_doubtful_answer_checks_whether_the_client_has_left() -> None:
    gone = World(FakeClient(gone=True))
    assert not gone.answer(doubtful=True).is_wanted()
    there = World()
    answer = there.answer(doubtful=True)
    assert answer.is_wanted()
    answer.left = True
    assert not answer.is_wanted()


def test_an_ending_process_answers_a_waiting_client() -> None:
    waits, streams = World(), World()
    waits.answer().give_up()
    assert waits.client.said == [("at once", 504)]
    answer = streams.answer()
    answer.push(OK, b"1234")
    answer.give_up()
    assert streams.client.said == ["begin", b"1234"]
