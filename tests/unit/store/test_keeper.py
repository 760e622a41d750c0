"""A lost database is restored from the second copy."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from rescoldo.model.errors import StoreError
from rescoldo.store.sqlite.files import Files
from rescoldo.store.sqlite.keeper import Keeper
from rescoldo.store.sqlite.opening import open_database

SCHEMA = ["CREATE TABLE thing (x INTEGER PRIMARY KEY); CREATE TABLE usage (x INTEGER PRIMARY KEY);"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "db"


class Kept:
    """A database and its keeper, as the writer's thread uses them."""

    def __init__(self, place: Path) -> None:
        self.keeper = Keeper(place, SCHEMA, place.parents[1] / "copy", lambda: open_database(place, SCHEMA, 1.0))
        self.connection = open_database(place, SCHEMA, 1.0)
        self.keeper.begin(self.connection)

    def add(self, table: str, number: int) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute(f"INSERT INTO {table} VALUES (?)", (number,))

        self.connection.execute("BEGIN IMMEDIATE")
        work(self.connection)
        self.connection.execute("COMMIT")
        self.keeper.wrote(self.connection, [work])

    def look(self) -> None:
        self.connection = self.keeper.look(self.connection)

    def rows(self, table: str) -> list[int]:
        return [x for (x,) in self.connection.execute(f"SELECT x FROM {table} ORDER BY x")]


@pytest.fixture
def kept(place: Path) -> Iterator[Kept]:
    kept = Kept(place)
    kept.add("thing", 1)
    kept.add("usage", 7)
    yield kept
    kept.connection.close()
    if kept.keeper._copy is not None:
        kept.keeper._copy.close()


def test_a_removed_file_loses_nothing(kept: Kept, place: Path) -> None:
    place.unlink()
    kept.look()
    assert place.exists()
    assert (kept.rows("thing"), kept.rows("usage")) == ([1], [7])
    assert (kept.keeper.condition.rewritten, kept.keeper.condition.lost) == (1, "")


def test_a_damaged_file_loses_only_the_counts_and_is_set_aside(kept: Kept, place: Path) -> None:
    kept.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # else -wal holds all of it, too
    kept.connection.execute("PRAGMA shrink_memory")  # and so does memory
    kept.keeper._files.note()
    place.write_bytes(b"garbage" * 2000)
    kept.look()
    assert (kept.rows("thing"), kept.rows("usage")) == ([1], [])
    assert "counts" in kept.keeper.condition.lost
    assert place.with_name("db.damaged").read_bytes().startswith(b"garbage")


def test_reads_and_checkpoints_of_others_are_not_a_loss(kept: Kept, place: Path) -> None:
    other = sqlite3.connect(place)
    assert other.execute("SELECT x FROM thing").fetchall() == [(1,)]
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    kept.look()
    kept.look()
    assert kept.keeper.condition.rewritten == 0
    kept.add("thing", 2)
    assert kept.rows("thing") == [1, 2]


def test_rows_that_others_removed_are_restored(kept: Kept, place: Path) -> None:
    other = sqlite3.connect(place)
    other.execute("DELETE FROM thing")
    other.commit()
    other.close()
    kept.look()
    assert kept.rows("thing") == [1]


def test_a_restore_that_fails_is_reported_until_it_succeeds(kept: Kept, place: Path) -> None:
    for path in list(place.parent.iterdir()):
        path.unlink()
    place.parent.rmdir()
    place.parent.write_text("in its place")
    kept.look()
    assert "cannot be restored" in kept.keeper.condition.problem
    place.parent.unlink()
    kept.look()
    assert kept.keeper.condition.problem == ""
    assert (kept.rows("thing"), kept.rows("usage")) == ([1], [7])


def test_a_failure_after_the_old_connection_is_closed_leaves_an_open_one_and_is_retried(
    kept: Kept, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reopen = kept.keeper._reopen

    def fail() -> sqlite3.Connection:
        raise StoreError("no descriptors are left")

    monkeypatch.setattr(kept.keeper, "_reopen", fail)
    place.unlink()
    for _ in range(2):
        kept.look()
        assert kept.connection.execute("SELECT 1").fetchone() == (1,)
        assert kept.keeper.condition.problem.startswith("it was lost (db was removed) and cannot be restored")
    monkeypatch.setattr(kept.keeper, "_reopen", reopen)
    kept.keeper._files = Files(place)  # knows no other files: these look right
    kept.keeper._files.note()
    kept.look()
    assert kept.keeper.condition.problem == ""
    assert kept.rows("thing") == [1]


def test_a_lost_copy_is_written_again(kept: Kept, place: Path) -> None:
    copy = place.parents[1] / "copy"
    copy.unlink()
    kept.look()
    assert copy.exists()
    kept.add("thing", 2)
    place.unlink()
    kept.look()
    assert kept.rows("thing") == [1, 2]


def test_the_next_controller_restores_the_database_from_the_previous_ones_copy(kept: Kept, place: Path) -> None:
    kept.connection.close()
    for path in list(place.parent.iterdir()):
        path.unlink()
    following = Keeper(place, SCHEMA, place.parents[1] / "copy", lambda: open_database(place, SCHEMA, 1.0))
    connection = following.restored_at_start("it was missing")
    assert connection is not None
    kept.connection = connection
    assert kept.rows("thing") == [1]
    assert following._copy is not None
    following._copy.close()
