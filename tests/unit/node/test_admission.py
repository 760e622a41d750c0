"""The resources that an instance gets before its start, and what remains afterwards."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from rescoldo.model.errors import Busy, Conflict, StartFailed
from rescoldo.model.ids import INSTANCE_UIDS
from rescoldo.model.instance import Launch
from rescoldo.model.names import InstanceId, function_id
from rescoldo.model.settings import Settings
from rescoldo.node.instances import roster as rosters
from rescoldo.node.instances.admission import Admission
from rescoldo.node.instances.boot import Boot
from rescoldo.node.instances.memory_watch import MemoryWatch
from rescoldo.node.instances.roster import DESCRIPTORS_EACH, Roster
from rescoldo.node.instances.starts import Starts
from rescoldo.node.instances.stops import Stops
from rescoldo.node.instances.supervised import Supervised
from rescoldo.node.instances.supervision import Supervision
from rescoldo.node.output.logs import LogBook
from rescoldo.node.sockets.endpoints import Endpoints
from rescoldo.node.sockets.listeners import Listeners
from rescoldo.tasks import Tasks

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
LAUNCH = Launch(InstanceId("i1"), function_id("fn"), "digest")
FOLDERS = ("instances", "instance_state", "scratch", "program_sockets", "logs")


class Desk:
    """An admission with a folder of its own."""

    def __init__(self, *, privileged: bool = False) -> None:
        folder = tempfile.mkdtemp(prefix="ad-")
        self.settings = Settings(folder, folder)
        for name in FOLDERS:
            getattr(self.settings, name).mkdir(parents=True)
        self.roster = Roster(reserved=0)
        self.listeners = Listeners(Tasks())
        endpoints = Endpoints(self.settings, privileged=privileged, fenced=False)
        self.admission = Admission(self.settings, self.roster, endpoints, self.listeners, LogBook(self.settings.logs))

    def files(self) -> list[str]:
        return sorted(path.name for name in FOLDERS for path in Path(getattr(self.settings, name)).iterdir())

    def close(self) -> None:
        for instance in self.roster:
            self.admission.release(instance)
        self.listeners.close()
        shutil.rmtree(self.settings.data)


@pytest.fixture
async def desk() -> object:
    made = Desk()
    yield made
    made.close()


@pytest.fixture
async def privileged() -> object:
    made = Desk(privileged=True)
    yield made
    made.close()


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_a_released_instance_leaves_no_file_and_no_descriptor(desk: Desk) -> None:
    before = descriptors()
    instance, leavers = desk.admission.admit(LAUNCH, successor=True)
    assert leavers == []
    assert LAUNCH.instance in desk.roster
    assert desk.files() == ["i1", "i1.err", "i1.log", "i1.sock"]  # the note is written when the process starts
    for _ in range(2):
        desk.admission.release(instance)
    assert (desk.files(), list(desk.roster), descriptors()) == ([], [], before)


async def test_a_failed_admission_leaves_nothing_and_says_why(desk: Desk) -> None:
    before = descriptors()
    (desk.settings.scratch / "i1").mkdir()  # blocks the file that is created last
    with pytest.raises(StartFailed, match=rf"{LAUNCH.function}: .*File exists"):
        desk.admission.admit(LAUNCH, successor=False)
    (desk.settings.scratch / "i1").rmdir()
    assert (desk.files(), list(desk.roster), descriptors()) == ([], [], before)


@pytest.mark.root
@needs_root
async def test_a_uid_returns_to_the_pool_when_its_instance_has_ended_or_was_not_admitted(
    privileged: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privileged.admission._uids, "_pool", INSTANCE_UIDS[:1])
    instance, _ = privileged.admission.admit(LAUNCH, successor=False)
    assert instance.note.uid == INSTANCE_UIDS[0]
    other = replace(LAUNCH, instance=InstanceId("i2"))
    with pytest.raises(Busy, match="all user ids"):
        privileged.admission.admit(other, successor=False)
    privileged.admission.release(instance)
    privileged.settings.instances.rmdir()
    with pytest.raises(StartFailed):
        privileged.admission.admit(other, successor=False)
    privileged.settings.instances.mkdir()
    privileged.admission.admit(other, successor=False)


@pytest.mark.root
@needs_root
async def test_a_uid_whose_processes_cannot_be_killed_is_not_reused(privileged: Desk) -> None:
    taken: list[int] = []

    async def sweep(uid: int) -> bool:
        taken.append(uid)
        return uid != INSTANCE_UIDS[0]

    for uid in INSTANCE_UIDS[:2]:
        await privileged.admission.take_back(uid, sweep)
    assert taken == list(INSTANCE_UIDS[:2])
    assert privileged.admission._uids._taken == {INSTANCE_UIDS[0]}


async def test_an_instance_with_a_taken_name_or_above_the_maximum_is_refused(desk: Desk) -> None:
    desk.admission.admit(LAUNCH, successor=False)
    with pytest.raises(Conflict, match="i1 exists already"):
        desk.admission.admit(LAUNCH, successor=False)
    desk.roster.most = 1
    with pytest.raises(Busy, match=r"runs 1 instances, the most allowed: .*ulimit -n"):
        desk.admission.admit(replace(LAUNCH, instance=InstanceId("i2")), successor=False)
    assert desk.files() == ["i1", "i1.err", "i1.log", "i1.sock"]


def test_the_maximum_of_instances_follows_from_the_limit_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rosters, "descriptors", lambda: 10_000)
    assert Roster(reserved=600).most == 9400 // DESCRIPTORS_EACH == 1566
    monkeypatch.setattr(rosters, "descriptors", lambda: 10**9)
    assert Roster(reserved=600).most == rosters.MAX_INSTANCES


async def test_an_instance_that_does_not_fit_into_the_memory_is_refused_and_leaves_nothing(desk: Desk) -> None:
    class Full:
        async def take_room(self, _: Supervised) -> None:
            raise Busy("full")

    class NoProcess:
        async def end(self, _: Supervised, *, grace: float) -> None:
            """There is none to end."""

    desk.admission._memory = cast(MemoryWatch, Full())
    starts = Starts(desk.admission, cast(Boot, NoProcess()), cast(Supervision, None), cast(Stops, None))
    with pytest.raises(Busy, match="full"):
        await starts.start(LAUNCH, lambda _: None)
    assert (desk.files(), list(desk.roster)) == ([], [])
