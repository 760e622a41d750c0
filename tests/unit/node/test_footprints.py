"""Memory of instances from a /proc, written by the test; and from the machine's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rescoldo.node.processes.footprints import STRAYS, Footprint, Footprints

MIB = 2**20
PAGE = os.sysconf("SC_PAGE_SIZE")
ZYGOTE, LEADER, OTHER, CHILD = 10, 20, 21, 30


class Proc:
    """A folder like /proc."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "self").mkdir()

    def put(
        self, pid: int, parent: int, anonymous: int, files: int = 8, shmem: int = 0, session: int = 0, started: int = 1
    ) -> None:
        """Write a process; sizes in MiB."""
        folder = self.folder / str(pid)
        folder.mkdir(exist_ok=True)
        pages = [size * MIB // PAGE for size in (anonymous + files + shmem, files + shmem)]
        (folder / "statm").write_text(f"99999 {pages[0]} {pages[1]} 1 0 9 0\n")
        (folder / "stat").write_text(f"{pid} (a) b) S {parent} {pid} {session or pid} {'0 ' * 15}{started} 0\n")
        (folder / "status").write_text(f"Name:\tx\nRssShmem:\t{shmem * 1024} kB\n")

    def remove(self, pid: int) -> None:
        for file in (self.folder / str(pid)).iterdir():
            file.unlink()
        (self.folder / str(pid)).rmdir()


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    made = Proc(tmp_path)
    made.put(ZYGOTE, 1, anonymous=20)
    made.put(LEADER, ZYGOTE, anonymous=20)
    return made


def footprint(own: int, most: int, *pids: int) -> Footprint:
    return Footprint(own * MIB, most * MIB, pids)


def test_pages_that_a_fork_may_have_in_common_with_the_zygote_do_not_count_as_its_own(proc: Proc) -> None:
    footprints = Footprints(str(proc.folder))
    assert footprints.measure({LEADER: 0}) == {LEADER: footprint(0, 20, LEADER)}
    proc.put(LEADER, ZYGOTE, anonymous=120)
    assert footprints.measure({LEADER: 0}) == {LEADER: footprint(100, 120, LEADER)}


def test_an_instance_that_is_large_when_first_seen_inherited_no_more_than_the_zygote_had(proc: Proc) -> None:
    proc.put(LEADER, ZYGOTE, anonymous=200)
    assert Footprints(str(proc.folder)).measure({LEADER: 0})[LEADER].own == 180 * MIB


def test_a_spare_becomes_an_instance(proc: Proc) -> None:
    footprints = Footprints(str(proc.folder))
    assert footprints.measure({}) == {}
    proc.put(LEADER, ZYGOTE, anonymous=50)
    assert footprints.measure({LEADER: 0})[LEADER].own == 30 * MIB


def test_children_count_with_their_instance_also_after_their_parents_are_gone(proc: Proc) -> None:
    footprints = Footprints(str(proc.folder))
    proc.put(CHILD, LEADER, anonymous=60)
    proc.put(CHILD + 1, CHILD, anonymous=70, session=CHILD + 1)
    expected = footprint(0 + 40 + 10, 20 + 60 + 70, LEADER, CHILD, CHILD + 1)
    assert footprints.measure({LEADER: 0, OTHER: 0}) == {LEADER: expected}
    proc.put(CHILD + 1, ZYGOTE, anonymous=70, session=CHILD + 1)
    proc.remove(CHILD)
    assert footprints.measure({LEADER: 0})[LEADER].processes == (LEADER, CHILD + 1)


def test_a_child_without_its_parent_is_found_by_its_session(proc: Proc) -> None:
    proc.put(CHILD, ZYGOTE, anonymous=60, session=LEADER)
    proc.put(CHILD + 1, ZYGOTE, anonymous=60)
    assert Footprints(str(proc.folder)).measure({LEADER: 0})[LEADER].processes == (LEADER, CHILD)


def test_processes_that_outlive_their_instance_become_strays(proc: Proc) -> None:
    footprints = Footprints(str(proc.folder))
    proc.put(CHILD, LEADER, anonymous=60)
    footprints.measure({LEADER: 0})
    proc.remove(LEADER)
    proc.put(OTHER, ZYGOTE, anonymous=20)
    assert footprints.measure({OTHER: 0}) == {OTHER: footprint(0, 20, OTHER), STRAYS: footprint(40, 60, CHILD)}
    proc.remove(OTHER)
    assert footprints.measure({}) == {STRAYS: footprint(40, 60, CHILD)}
    proc.remove(CHILD)
    assert footprints.measure({}) == {}


def test_a_process_without_parents_belongs_to_the_instance_whose_process_has_made_its_session(proc: Proc) -> None:
    footprints = Footprints(str(proc.folder))
    footprints.note_session(CHILD, LEADER)  # it has ended since
    proc.put(CHILD + 1, 1, anonymous=20, session=CHILD)
    proc.put(CHILD + 2, 1, anonymous=20, session=CHILD + 7)
    assert footprints.measure({LEADER: 0})[LEADER].processes == (LEADER, CHILD + 1)
    assert footprints.sessions(LEADER) == [CHILD]


def test_a_later_process_with_the_number_of_a_session_does_not_belong_to_the_instance_that_made_it(proc: Proc) -> None:
    footprints = Footprints(str(proc.folder))
    proc.put(CHILD, 1, anonymous=20, started=500)
    footprints.note_session(CHILD, LEADER)
    assert footprints.sessions(LEADER) == [CHILD]
    proc.put(CHILD, 1, anonymous=20, started=900)
    assert footprints.sessions(LEADER) == []
    assert footprints.measure({LEADER: 0}).keys() == {LEADER}


def test_sessions_without_a_process_are_forgotten_when_there_are_many(proc: Proc) -> None:
    footprints = Footprints(str(proc.folder))
    proc.put(CHILD, 1, anonymous=20, session=CHILD)
    footprints.note_session(CHILD, LEADER)
    for session in range(10**6, 10**6 + 10_000):
        footprints.note_session(session, LEADER)
    sessions = footprints.sessions(LEADER)
    assert CHILD in sessions
    assert len(sessions) <= 4096


def test_shared_memory_counts_once_as_its_own_and_at_most_for_each_process(proc: Proc) -> None:
    proc.put(LEADER, ZYGOTE, anonymous=20, shmem=100)
    proc.put(CHILD, LEADER, anonymous=20, shmem=100)
    footprints = Footprints(str(proc.folder))
    assert footprints.measure({LEADER: 512 * MIB})[LEADER].own == 0  # cannot exceed the limit: not read
    for found in (footprints.measure({LEADER: 64 * MIB}), footprints.measure({LEADER: 0}, exact=True)):
        assert found == {LEADER: footprint(100, 240, LEADER, CHILD)}


def test_a_process_that_ends_meanwhile_counts_nothing(proc: Proc) -> None:
    proc.put(CHILD, LEADER, anonymous=60)
    (proc.folder / str(CHILD) / "statm").unlink()
    assert Footprints(str(proc.folder)).measure({LEADER: 0})[LEADER] == footprint(0, 20, LEADER, CHILD)


TAKES = """
import os, sys, time
kept = b"x" * (64 << 20)
child = os.fork()
if not child:
    more = b"y" * (32 << 20)
    sys.stdout.write("ready\\n")
    sys.stdout.flush()
time.sleep(600)
"""


@pytest.mark.slow
def test_the_memory_of_a_real_process_and_its_child() -> None:
    with subprocess.Popen([sys.executable, "-c", TAKES], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            found = Footprints().measure({process.pid: 0})[process.pid]
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    assert len(found.processes) == 2
    # at least: without what this process could have given to the first, and that one to its child
    assert found.own >= 20 * MIB
    assert 160 * MIB <= found.most <= 240 * MIB


def test_orphans_of_instances_are_strays_with_their_descendants(proc: Proc) -> None:
    footprints = Footprints(str(proc.folder))
    footprints.measure({LEADER: 0})
    proc.put(50, os.getpid(), anonymous=30)  # forked twice between two polls
    proc.put(51, 50, anonymous=30)
    proc.put(60, os.getpid(), anonymous=30)  # the node's own
    found = footprints.measure({LEADER: 0}, ours=[ZYGOTE, 60])
    assert found == {LEADER: footprint(0, 20, LEADER), STRAYS: footprint(30, 60, 50, 51)}
