"""Commits of another process, detected on our connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rescoldo.store.sqlite.opening import open_database
from rescoldo.store.sqlite.others import SECONDS, OtherCommits

SCHEMA = ["CREATE TABLE thing (x INTEGER PRIMARY KEY);"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "db"


@pytest.fixture
def ours(place: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_database(place, SCHEMA, 1.0)) as connection:
        yield connection


@pytest.fixture
def theirs(place: Path, ours: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(place, isolation_level=None)) as connection:
        yield connection


@pytest.fixture
def others(ours: sqlite3.Connection) -> OtherCommits:
    made = OtherCommits()
    made.begin(ours)
    return made


def test_a_commit_of_another_process_is_detected_once(
    others: OtherCommits, ours: sqlite3.Connection, theirs: sqlite3.Connection
) -> None:
    theirs.execute("INSERT INTO thing VALUES (1)")
    assert [others.seen(ours, now) for now in (10.0, 20.0)] == [True, False]


def test_our_own_commits_and_reads_of_others_are_not_detected(
    others: OtherCommits, ours: sqlite3.Connection, theirs: sqlite3.Connection
) -> None:
    ours.execute("INSERT INTO thing VALUES (1)")
    assert theirs.execute("SELECT x FROM thing").fetchall() == [(1,)]
    assert not others.seen(ours, 10.0)


def test_commits_are_polled_once_a_second_and_none_is_missed(
    others: OtherCommits, ours: sqlite3.Connection, theirs: sqlite3.Connection
) -> None:
    assert not others.seen(ours, 10.0)
    theirs.execute("INSERT INTO thing VALUES (1)")
    assert not others.seen(ours, 10.0 + SECONDS / 2)
    assert others.seen(ours, 10.0 + SECONDS)


def test_a_new_connection_to_a_restored_database_starts_counting_again(
    others: OtherCommits, ours: sqlite3.Connection, place: Path
) -> None:
    for number in range(3):
        ours.execute("INSERT INTO thing VALUES (?)", (number,))
    with closing(open_database(place, SCHEMA, 1.0)) as again:
        assert not others.seen(again, 10.0)
        ours.execute("INSERT INTO thing VALUES (7)")
        assert others.seen(again, 20.0)


def test_an_unreadable_database_reports_no_commit(others: OtherCommits, ours: sqlite3.Connection) -> None:
    ours.close()
    assert not others.seen(ours, 10.0)
