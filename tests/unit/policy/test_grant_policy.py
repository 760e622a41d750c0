"""Never two valid grants for a function, whatever is lost, late, repeated or started anew."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rescoldo.model.names import FunctionId, function_id
from rescoldo.policy.grants import GRANT_SECONDS, WAIT_SECONDS, Grant, GrantBook

FN, OTHER = function_id("fn"), function_id("other")


@pytest.fixture
def book() -> GrantBook:
    return GrantBook(100.0, {})


def test_the_first_worker_gets_it_and_the_next_waits_its_time_out(book: GrantBook) -> None:
    assert book.grant(FN, "a", "t1", 100.0) == Grant(GRANT_SECONDS, "t1")
    assert book.grant(FN, "b", "t2", 120.0) == Grant(0.0, retry_after=100.0 + WAIT_SECONDS - 120.0)
    assert book.grant(OTHER, "b", "t3", 120.0) == Grant(GRANT_SECONDS, "t3")
    assert book.grant(FN, "b", "t4", 100.0 + WAIT_SECONDS) == Grant(GRANT_SECONDS, "t4")
    assert book.holder(FN) == "b"


def test_a_renewal_begins_the_time_anew_and_tells_once_that_another_has_asked(book: GrantBook) -> None:
    book.grant(FN, "a", "t1", 100.0)
    book.grant(FN, "b", "t2", 105.0)
    assert book.grant(FN, "a", "t3", 110.0) == Grant(GRANT_SECONDS, "t3", wanted=True)
    assert book.grant(FN, "a", "t4", 120.0) == Grant(GRANT_SECONDS, "t4")
    assert not book.grant(FN, "b", "t5", 120.0 + WAIT_SECONDS - 1).seconds
    assert book.grant(FN, "b", "t6", 120.0 + WAIT_SECONDS) == Grant(GRANT_SECONDS, "t6")


@pytest.mark.parametrize(
    ("sender", "token", "free"), [("a", "t2", True), ("a", "t1", False), ("b", "t2", False), ("a", "", False)]
)
def test_the_latest_grant_alone_can_be_given_back(book: GrantBook, sender: str, token: str, free: bool) -> None:
    book.grant(FN, "a", "t1", 100.0)
    book.grant(FN, "a", "t2", 101.0)
    book.give_back(FN, sender, token)
    assert bool(book.grant(FN, "b", "t3", 102.0).seconds) is free


def test_after_a_restart_each_holder_has_its_function_for_the_whole_time(book: GrantBook) -> None:
    again = GrantBook(-5.0, {FN: "a"})  # another clock
    assert not again.grant(FN, "b", "t1", WAIT_SECONDS - 6.0).seconds
    again.give_back(FN, "a", "of the control before")
    assert not again.grant(FN, "b", "t1", WAIT_SECONDS - 6.0).seconds
    assert again.grant(OTHER, "b", "t2", 0.0).seconds
    assert again.grant(FN, "b", "t3", WAIT_SECONDS - 5.0).seconds


def test_without_what_was_saved_nobody_gets_anything_before_all_grants_have_ended() -> None:
    book = GrantBook(0.0, None)
    assert book.grant(FN, "a", "t1", WAIT_SECONDS - 1) == Grant(0.0, retry_after=1.0)
    assert book.grant(FN, "a", "t1", WAIT_SECONDS).seconds


def test_a_holder_has_to_be_saved_once(book: GrantBook) -> None:
    book.grant(FN, "a", "t1", 100.0)
    assert book.unsaved(FN)
    book.grant(FN, "a", "t2", 101.0)
    assert book.unsaved(FN), "the save before may have failed"
    book.note_saved(FN, book.holder(FN))
    book.grant(FN, "a", "t3", 102.0)
    assert not book.unsaved(FN)
    book.give_back(FN, "a", "t3")
    assert (book.unsaved(FN), book.holder(FN)) == (True, "")
    book.note_saved(FN, "")
    assert not book.unsaved(FN)


@dataclass
class Clock:
    """A clock with an offset and a rate of its own."""

    offset: float
    rate: float

    def at(self, true: float) -> float:
        return self.offset + self.rate * true


@dataclass(eq=False)
class Worker:
    name: str
    clock: Clock
    until: float = float("-inf")  # on its clock
    token: str = ""
    asked: int = 0  # it waits for the answer to its last request alone


class Messages(RuleBasedStateMachine):
    """Three workers and a control. The network loses, delays, reorders and repeats what it carries."""

    offsets = st.floats(-1e6, 1e6)
    rates = st.floats(0.997, 1.003)
    delays = st.sampled_from([0.0] * 6 + [0.1, 7.0, 29.0, 45.0])  # mostly none, so that much happens within 30 s
    backs = st.sampled_from([0.0] * 6 + [0.1, 7.0, 29.0, None])
    some = st.sampled_from([0, 0, 0, 1, 1, 2])

    @initialize(offsets=st.lists(offsets, min_size=4, max_size=4), rates=st.lists(rates, min_size=4, max_size=4))
    def begin(self, offsets: list[float], rates: list[float]) -> None:
        self.now = 0.0
        self.clock, *others = map(Clock, offsets, rates)
        self.workers = [Worker(name, clock) for name, clock in zip("abc", others, strict=True)]
        self.saved: dict[FunctionId, str] = {}
        self.book = GrantBook(self.clock.at(0.0), {})
        self.due: list[tuple[float, int, Callable[[], None]]] = []  # what is on its way
        self.count = 0

    def after(self, delay: float, happens: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.due, (self.now + delay, self.count, happens))

    @rule(seconds=st.sampled_from([0.2, 3.0, 10.0, 28.0, 30.1, 31.0]))
    def time_passes(self, seconds: float) -> None:
        end = self.now + seconds
        while self.due and self.due[0][0] <= end:
            self.now, _, happens = heapq.heappop(self.due)
            happens()
            self.never_two()
        self.now = end

    @rule(
        which=some, delays=st.lists(delays, min_size=1, max_size=2), back=backs,
        kept=st.sampled_from([True] * 4 + [False]),
    )  # fmt: skip
    def a_worker_asks(self, which: int, delays: list[float], back: float | None, kept: bool) -> None:
        """The request arrives after each of the delays; its answer after `back`, if at all. `kept`: control can save
        the holder; otherwise it does not answer."""
        worker = self.workers[which]
        worker.asked += 1
        number, sent = worker.asked, worker.clock.at(self.now)

        def arrives() -> None:
            self.count += 1
            grant = self.book.grant(FN, worker.name, f"t{self.count}", self.clock.at(self.now))
            if (self.save() if kept else not self.book.unsaved(FN)) and back is not None:
                self.after(back, lambda: answered(grant))

        def answered(grant: Grant) -> None:
            if number == worker.asked and grant.seconds:
                worker.until, worker.token = sent + grant.seconds, grant.token

        for delay in delays:
            self.after(delay, arrives)
        self.time_passes(0.0)

    @rule(which=some, delays=st.lists(delays, min_size=0, max_size=2))
    def a_worker_gives_back(self, which: int, delays: list[float]) -> None:
        worker = self.workers[which]
        worker.asked += 1
        token, worker.until, worker.token = worker.token, float("-inf"), ""
        for delay in delays:
            self.after(delay, lambda: self.given_back(worker.name, token))
        self.time_passes(0.0)

    def given_back(self, sender: str, token: str) -> None:
        self.book.give_back(FN, sender, token)
        self.save()

    def save(self) -> bool:
        holder = self.book.holder(FN)
        if self.book.unsaved(FN):
            self.saved = {FN: holder} if holder else {}
            self.book.note_saved(FN, holder)
        return True

    @rule(offset=offsets, rate=rates, lost=st.booleans())
    def control_starts_anew(self, offset: float, rate: float, lost: bool) -> None:
        self.clock = Clock(offset, rate)
        self.book = GrantBook(self.clock.at(self.now), None if lost else dict(self.saved))

    @invariant()
    def never_two(self) -> None:
        if hasattr(self, "workers"):
            valid = [one.name for one in self.workers if one.until > one.clock.at(self.now)]
            assert len(valid) <= 1, valid


Messages.TestCase.settings = settings(max_examples=400, stateful_step_count=20, deadline=None)
TestMessages = pytest.mark.slow(Messages.TestCase)
