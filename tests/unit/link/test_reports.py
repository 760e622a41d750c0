"""What a worker tells control about its functions, and when; on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from rescoldo.link.documents import SILENCE_SECONDS, JoinedDocuments
from rescoldo.link.fake import MemoryControl
from rescoldo.link.known import KnownDocuments
from rescoldo.link.protocol import GONE, QUIET_SECONDS, Delivery, Report
from rescoldo.link.refusals import MOST_REASON, Refusals
from rescoldo.link.reports import HASTE_SECONDS, PACE_SECONDS, Reports, sender_name, take_over_from
from rescoldo.model.deployed import Deployed
from rescoldo.model.errors import NotFound
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.names import FunctionId, function_id

pytestmark = pytest.mark.looptime

FN, OTHER = function_id("fn"), function_id("other")
ME = "pod/1"


@dataclass
class Worker:
    """A worker without a fleet: it serves every known document but those in `late`."""

    folder: Path
    control: MemoryControl = field(default_factory=MemoryControl)
    running: dict[FunctionId, int] = field(default_factory=dict)
    late: set[FunctionId] = field(default_factory=set)
    changing: set[FunctionId] = field(default_factory=set)
    told: list[Report] = field(default_factory=list)  # every report that came
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        known = KnownDocuments(self.folder)
        known.load()
        self.refusals = Refusals()
        self.documents = JoinedDocuments(self.control, known, "openfaas-fn", self._bring, self.refusals.end)
        self.reports = Reports(self.control, self.documents, known, self.refusals, ME)
        report = self.control.report

        async def note(one: Report) -> None:
            await report(one)
            self.told.append(one)

        self.control.report = note  # type: ignore[method-assign]

    async def _bring(self, delivery: Delivery) -> None:
        """Everything is here."""

    def awake(self) -> Mapping[FunctionId, int]:
        return dict(self.running)

    def serves(self, document: Deployed) -> bool:
        return document.id not in self.late

    def knows(self, function: FunctionId) -> bool:
        return function in self.late

    def is_changing(self, function: FunctionId) -> bool:
        return function in self.changing

    async def begin(self) -> None:
        """Begin, and make the first report; in the test, as a fixture's time is not virtual."""
        self.tasks = [asyncio.create_task(self.documents.run()), asyncio.create_task(self.reports.run(self))]
        assert await self.next() == Report(ME, {}, {}, {})

    async def deploy(self, name: str) -> int:
        """Deploy here; return the version."""
        found = await self.documents.get(function_id(name))
        new = Deployed(Function(FunctionSpec(name, "some:image"), "a" * 64, 1.0))
        return await self.documents.put(new if found is None else replace(found, requested=found.requested + 1))

    async def next(self) -> Report:
        """The reports of the next moment; it must be one."""
        before = len(self.told)
        await asyncio.sleep(1.1 * PACE_SECONDS)
        assert len(self.told) == before + 1
        return self.told[-1]


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    made = Worker(tmp_path / "known")
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


async def test_a_change_is_told_within_a_second_and_no_change_seldom(worker: Worker) -> None:
    await worker.begin()
    version = await worker.deploy("fn")
    worker.running[FN] = 2
    assert await worker.next() == Report(ME, {FN: 2}, {FN: version}, {})
    before = len(worker.told)
    await asyncio.sleep(10 * QUIET_SECONDS)
    quiet = worker.told[before:]
    assert len(quiet) in (9, 10)
    assert set(map(repr, quiet)) == {repr(Report(ME, {FN: 2}, {}, {}))}


async def test_many_changes_at_once_are_one_report(worker: Worker) -> None:
    await worker.begin()
    for _ in range(50):
        last = await worker.deploy("fn")
        await worker.deploy("other")
    told = await worker.next()
    assert told.applied == {FN: last, OTHER: last + 1}


async def test_versions_that_control_has_are_not_told_again(worker: Worker) -> None:
    await worker.begin()
    await worker.deploy("fn")
    await worker.next()
    version = await worker.deploy("other")
    assert (await worker.next()).applied == {OTHER: version}
    await worker.documents.delete(FN)
    assert (await worker.next()).applied == {FN: GONE}
    assert worker.control.reported[ME].applied == {OTHER: version}


async def test_a_document_that_is_not_taken_over_yet_is_not_told(worker: Worker) -> None:
    await worker.begin()
    worker.late.add(FN)
    version = await worker.deploy("fn")
    worker.running[OTHER] = 1
    assert (await worker.next()).applied == {}
    worker.late.clear()
    assert (await worker.next()).applied == {FN: version}


async def test_refusals_are_told_whole_and_bounded(worker: Worker) -> None:
    await worker.begin()
    worker.refusals.note(FN, "no\x1b[31m" + "x" * 1000)
    worker.refusals.note(OTHER, "bad")
    told = await worker.next()
    assert told.refused[OTHER] == "bad"
    assert len(told.refused[FN]) == MOST_REASON
    assert "\x1b" not in told.refused[FN]
    worker.refusals.end(FN)
    assert (await worker.next()).refused == {OTHER: "bad"}


async def test_a_refusal_ends_once_the_present_document_serves(worker: Worker) -> None:
    await worker.begin()
    worker.late.add(FN)
    worker.refusals.note(FN, "revision 2 did not start")
    await worker.deploy("fn")
    assert (await worker.next()).refused == {FN: "revision 2 did not start"}
    worker.late.clear()
    assert (await worker.next()).refused == {}


async def test_a_refused_change_is_told_though_the_document_before_serves(worker: Worker) -> None:
    await worker.begin()
    version = await worker.deploy("fn")
    worker.documents.refusals.note(FN, "its bundle is damaged")
    told = await worker.next()
    assert (told.applied, told.refused) == ({FN: version}, {FN: "its bundle is damaged"})


async def test_after_a_gap_everything_is_told_and_nothing_before(worker: Worker) -> None:
    await worker.begin()
    version = await worker.deploy("fn")
    other = await worker.deploy("other")
    await worker.next()
    worker.control.leave()
    worker.running[FN] = 1
    before = worker.control.reports
    await asyncio.sleep(60)
    assert worker.control.reports == before
    worker.control.reported.clear()  # another control took its place
    worker.control.come_back()
    await asyncio.sleep(15)
    assert worker.control.reported[ME] == Report(ME, {FN: 1}, {FN: version, OTHER: other}, {})


async def test_what_went_during_a_gap_is_told(worker: Worker) -> None:
    await worker.begin()
    await worker.deploy("fn")
    await worker.next()
    worker.control.leave()
    await asyncio.sleep(60)
    await worker.control.documents.delete(FN)
    worker.control.come_back()
    await asyncio.sleep(15)
    assert worker.control.reported[ME].applied == {}


async def test_a_marked_change_is_reported_as_soon_as_it_is_in_force(worker: Worker) -> None:
    await worker.begin()
    await worker.deploy("fn")
    await worker.next()
    worker.changing.add(FN)  # by hand, as there is no fleet
    worker.control.marks[FN] = 7
    await worker.control.documents.delete(FN)
    await asyncio.sleep(2 * PACE_SECONDS)
    assert worker.control.marked == {}
    worker.changing.clear()
    await asyncio.sleep(2 * HASTE_SECONDS)
    assert worker.control.marked == {FN: 7}
    before = worker.control.reports
    await asyncio.sleep(QUIET_SECONDS / 2)
    assert worker.control.reports == before  # once is enough


async def test_a_mark_of_what_this_worker_does_not_have_is_confirmed_at_once(worker: Worker) -> None:
    await worker.begin()
    worker.control.marks[OTHER] = 8
    worker.control.documents.remind(OTHER)
    await asyncio.sleep(3 * HASTE_SECONDS)
    assert worker.control.marked == {OTHER: 8}


async def test_a_refused_change_is_settled_but_an_earlier_refusal_is_not(worker: Worker) -> None:
    await worker.begin()
    version = await worker.deploy("fn")
    worker.refusals.note(FN, "revision 1 did not start")
    worker.late.add(FN)
    await worker.next()
    worker.control.marks[FN] = 9
    found = worker.control.documents.shared[FN]
    await worker.control.documents.put(replace(found, version=version, requested=3))
    await asyncio.sleep(3 * HASTE_SECONDS)
    assert worker.control.marked == {}
    worker.refusals.note(FN, "revision 2 did not start")
    await asyncio.sleep(3 * HASTE_SECONDS)
    assert worker.control.marked == {FN: 9}


async def test_a_mark_that_did_not_arrive_is_sent_again_on_the_next_stream_alone(worker: Worker) -> None:
    await worker.begin()
    await worker.deploy("fn")
    await worker.next()
    worker.changing.add(FN)
    worker.control.marks[FN] = 7
    worker.control.documents.remind(FN)
    await asyncio.sleep(PACE_SECONDS)
    worker.control.leave()
    await asyncio.sleep(SILENCE_SECONDS)
    worker.changing.clear()
    worker.control.come_back()
    await asyncio.sleep(15)
    assert worker.control.marked == {}  # control repeats what it waits for; this one waits for nothing
    assert worker.documents.marks.due == {}


async def test_a_worker_that_ends_says_so(worker: Worker) -> None:
    await worker.begin()
    await worker.reports.leave()
    assert worker.told[-1] == Report(ME, {}, {}, {}, left=True)
    worker.control.leave()
    await asyncio.sleep(2 * SILENCE_SECONDS)
    await worker.reports.leave()  # and does not wait for a control that is away


async def test_a_control_that_takes_no_reports_is_asked_seldom(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    await worker.begin()

    async def refuse(report: Report) -> None:
        asked.append(report)
        raise NotFound("no such route")

    asked: list[Report] = []
    worker.control.report = refuse  # type: ignore[method-assign]
    worker.running[FN] = 1
    await asyncio.sleep(10 * QUIET_SECONDS)
    assert 8 <= len(asked) <= 10
    assert caplog.text.count("no such route") == 1


def test_a_process_knows_the_sender_that_was_here_before(tmp_path: Path) -> None:
    file = tmp_path / "sender"
    assert [take_over_from(file, name) for name in ("pod/1", "pod/2", "pod/3")] == ["", "pod/1", "pod/2"]


async def test_the_sender_that_was_here_before_is_in_each_report(worker: Worker) -> None:
    worker.reports._earlier = "pod/0"
    worker.tasks = [asyncio.create_task(worker.documents.run()), asyncio.create_task(worker.reports.run(worker))]
    assert (await worker.next()).earlier == "pod/0"
    worker.running[FN] = 1
    assert (await worker.next()).earlier == "pod/0"


def test_each_process_is_a_sender_of_its_own() -> None:
    first, second = Report(sender_name(), {}, {}, {}), Report(sender_name(), {}, {}, {})
    assert first.sender != second.sender
    assert first.worker == second.worker != ""
