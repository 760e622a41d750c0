"""SqliteStore and its disk: durability, migrations, and every failure of a disk."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from rescoldo.model.errors import NewerSchema, StoreError, StoreLocked
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.names import function_id
from rescoldo.store.protocol import MinuteUsage
from rescoldo.store.sqlite.queries import load_queries, load_schema, parse_queries
from rescoldo.store.sqlite.store import SqliteStore
from rescoldo.store.sqlite.writer import Writer

A = "a" * 64
SPEC = FunctionSpec(name="echo", image="me/echo:1", labels={"a": "b"}, env_vars={"K": "V"})
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def named(name: str, **changes: object) -> Function:
    return Function(replace(SPEC, name=name, **changes), A, 1.0)  # type: ignore[arg-type]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount], check=True)
    yield mount
    subprocess.run(["umount", mount], check=True)


# -- durability and the group commit


async def test_saved_rows_survive_a_kill_of_the_process(tmp_path: Path) -> None:
    program = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from rescoldo.store.sqlite.store import SqliteStore\n"
        "async def main():\n"
        "    store = await SqliteStore.open(Path(sys.argv[1]))\n"
        "    await store.save_bundle('one', 'a' * 64, 1, 1.0)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    killed = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program, tmp_path / "db"])
    assert killed.returncode == -9
    store = await SqliteStore.open(tmp_path / "db")
    assert [bundle.image for bundle in await store.bundles()] == ["one"]
    await store.close()


async def test_the_connection_syncs_every_commit(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "db", load_schema(), 1.0)
    await writer.open()
    assert await writer.read(lambda c: c.execute("PRAGMA synchronous").fetchone()) == (2,)
    assert await writer.read(lambda c: c.execute("PRAGMA journal_mode").fetchone()) == ("wal",)
    assert await writer.read(lambda c: c.execute("PRAGMA foreign_keys").fetchone()) == (1,)
    await writer.close()


async def test_waiting_writes_share_one_commit(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "db", ["CREATE TABLE t (x INTEGER PRIMARY KEY)"], 1.0)
    await writer.open()
    commits: list[str] = []
    await writer.read(lambda c: c.set_trace_callback(lambda sql: sql == "COMMIT" and commits.append(sql)))
    gate = threading.Event()
    blocked = asyncio.ensure_future(writer.read(lambda c: gate.wait()))
    writes = [
        asyncio.ensure_future(writer.write(lambda c, n=n: c.execute("INSERT INTO t VALUES (?)", (n,))))
        for n in range(50)
    ]
    await asyncio.sleep(0)  # let each queue its operation
    gate.set()
    await asyncio.gather(blocked, *writes)
    assert len(commits) <= 3  # one for the trace, one for the gate, one for all fifty
    await writer.close()


async def test_a_failed_operation_does_not_lose_the_others_of_its_group(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "db", ["CREATE TABLE t (x INTEGER PRIMARY KEY)"], 1.0)
    await writer.open()

    def half_done(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t VALUES (77)")
        raise ValueError("mine")

    gate = threading.Event()
    blocked = asyncio.ensure_future(writer.read(lambda c: gate.wait()))
    outcomes = asyncio.gather(
        writer.write(lambda c: c.execute("INSERT INTO t VALUES (1)") and None),
        writer.write(half_done),
        writer.write(lambda c: c.execute("INSERT INTO t VALUES (1)") and None),
        writer.write(lambda c: c.execute("INSERT INTO t VALUES (2)") and None),
        return_exceptions=True,
    )
    await asyncio.sleep(0)
    gate.set()
    await blocked
    first, own, duplicate, last = await outcomes
    assert first is None and last is None
    assert isinstance(own, ValueError)
    assert isinstance(duplicate, StoreError) and "UNIQUE" in duplicate.message
    assert await writer.read(lambda c: c.execute("SELECT x FROM t").fetchall()) == [(1,), (2,)]
    await writer.close()


async def test_a_write_cancelled_before_its_turn_is_not_done(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "db")
    gate = threading.Event()
    begun = threading.Event()
    blocked = asyncio.ensure_future(store._writer.read(lambda c: begun.set() or gate.wait()))
    await asyncio.to_thread(begun.wait)
    write = asyncio.ensure_future(store.save_function(named("late")))
    await asyncio.sleep(0)
    write.cancel()
    await asyncio.sleep(0)
    gate.set()
    await blocked
    assert await store.functions() == []
    await store.close()


async def test_close_finishes_waiting_operations_and_refuses_later_ones(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "db")
    write = asyncio.ensure_future(store.save_function(named("last")))
    await asyncio.sleep(0)
    await store.close()
    await write
    with pytest.raises(StoreError, match="closed"):
        await store.functions()
    again = await SqliteStore.open(tmp_path / "db")
    assert len(await again.functions()) == 1
    await again.close()


@pytest.mark.slow
async def test_ten_thousand_functions_survive_a_restart(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "db")
    await asyncio.gather(*(store.save_function(named(f"f-{i}")) for i in range(10_000)))
    await store.close()
    store = await SqliteStore.open(tmp_path / "db")
    assert len(await store.functions()) == 10_000
    await store.close()


async def test_a_million_calls_are_counted_without_reading_their_history(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "db")
    usage = MinuteUsage(function_id("echo"), 0, 200, False, 1_000_000, 0, 0, 0, 0)
    await store.add_usage([usage])
    plan = await store._writer.read(
        lambda c: c.execute("EXPLAIN QUERY PLAN " + load_queries("usage")["invocations"]).fetchall()
    )
    assert "usage" not in str(plan)
    assert await store.invocations() == {function_id("echo"): 1_000_000}
    await store.close()


# -- the schema


async def test_an_empty_database_is_migrated_to_the_newest_version(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "db").close()
    store = await SqliteStore.open(tmp_path / "db")
    version = await store._writer.read(lambda c: c.execute("PRAGMA user_version").fetchone())
    assert version == (len(load_schema()),)
    await store.close()


async def test_an_older_database_gets_the_missing_steps_and_keeps_its_rows(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "db")
    await store.save_function(named("kept"))
    await store.close()
    longer = [*load_schema(), "ALTER TABLE function ADD COLUMN note TEXT NOT NULL DEFAULT 'none'"]
    store = await SqliteStore.open(tmp_path / "db", schema=longer)
    rows = await store._writer.read(lambda c: c.execute("SELECT id, note FROM function").fetchall())
    assert rows == [("kept.openfaas-fn", "none")]
    await store.close()


async def test_functions_of_a_database_without_revisions_are_their_own_first_revision(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "db")
    connection.executescript(load_schema()[0])
    spec = json.dumps({"service": "old", "image": "i"})
    connection.execute("INSERT INTO function VALUES ('old.openfaas-fn', ?, 'd', 5.0, 3)", (spec,))
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    store = await SqliteStore.open(tmp_path / "db")
    (function,) = await store.functions()
    assert (function.revision, function.revised_at, function.generation, function.traffic) == (3, 5.0, 0, {})
    await store.save_function(replace(function, revision=4))
    assert [one.number for one in await store.revisions(function.id)] == [3]
    await store.close()


async def test_a_database_without_requested_replicas_is_migrated_completely(tmp_path: Path) -> None:
    before = load_schema()[:2]
    store = await SqliteStore.open(tmp_path / "db", schema=before)
    function = replace(named("old"), revision=2, traffic={1: 50, 2: 50})
    await store.save_function(named("old"))
    await store.save_function(function)
    await store.close()
    store = await SqliteStore.open(tmp_path / "db")
    assert await store.functions() == [function]
    assert [one.number for one in await store.revisions(function.id)] == [1]
    assert await store.requested_replicas() == {}
    await store.save_requested_replicas(function.id, 4)
    await store.close()
    store = await SqliteStore.open(tmp_path / "db")
    assert await store.requested_replicas() == {function.id: 4}
    await store.close()


async def test_a_failed_migration_leaves_the_old_version_intact(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "db")
    await store.save_function(named("kept"))
    await store.close()
    broken = [*load_schema(), "DROP TABLE function; CREATE TABLE function (x); SELECT * FROM absent;"]
    with pytest.raises(StoreError, match="absent"):
        await SqliteStore.open(tmp_path / "db", schema=broken)
    store = await SqliteStore.open(tmp_path / "db")
    assert [f.spec.name for f in await store.functions()] == ["kept"]
    await store.close()


async def test_a_newer_database_is_refused_with_both_versions_and_its_path(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "db")
    connection.execute("PRAGMA user_version = 41")
    connection.close()
    with pytest.raises(NewerSchema) as caught:
        await SqliteStore.open(tmp_path / "db")
    for part in (str(tmp_path / "db"), "version 41", f"version {len(load_schema())}:", "install"):
        assert part in caught.value.message


def test_queries_are_found_by_the_name_above_them() -> None:
    assert parse_queries("-- intro\n-- name: one\nSELECT 1\n\n-- name: two\nSELECT\n 2\n") == {
        "one": "SELECT 1",
        "two": "SELECT\n 2",
    }


# -- failures of a disk


async def test_the_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "data" / "db")
    await store.save_function(named("secretive"))
    for path in (tmp_path / "data").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    await store.close()


async def test_a_file_that_is_not_a_database_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"certainly not SQLite" * 500)
    with pytest.raises(StoreError, match=r"db: it is not a database: stop rescoldo, then move"):
        await SqliteStore.open(tmp_path / "db")


async def test_a_damaged_page_is_named_with_a_remedy(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "db")
    await asyncio.gather(*(store.save_function(named(f"f-{i}")) for i in range(200)))
    await store.close()
    data = bytearray((tmp_path / "db").read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    (tmp_path / "db").write_bytes(data)
    with pytest.raises(StoreError, match="damaged: stop rescoldo"):
        await SqliteStore.open(tmp_path / "db")


async def test_one_damaged_page_of_many_is_found_at_the_start(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "db")
    await asyncio.gather(*(store.save_function(named(f"f-{i}")) for i in range(200)))
    await store.close()
    with (tmp_path / "db").open("r+b") as file:
        file.seek((tmp_path / "db").stat().st_size - 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(StoreError, match="damaged: stop rescoldo"):
        await SqliteStore.open(tmp_path / "db")


async def test_the_counts_of_a_large_file_are_not_checked_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await SqliteStore.open(tmp_path / "db")
    await store.save_function(named("kept"))
    await store.add_usage(MinuteUsage(function_id("kept"), i, 200, False, 1, 1, 1, 1, 1) for i in range(5000))
    await store.close()
    with (tmp_path / "db").open("r+b") as file:
        file.seek((tmp_path / "db").stat().st_size - 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(StoreError, match="damaged: stop rescoldo"):
        await SqliteStore.open(tmp_path / "db")
    monkeypatch.setattr("rescoldo.store.sqlite.opening.MAX_CHECKED", 1)
    store = await SqliteStore.open(tmp_path / "db")
    assert len(await store.functions()) == 1
    await store.close()


async def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    with pytest.raises(StoreError, match="db: it cannot be opened"):
        await SqliteStore.open(tmp_path / "db")


async def test_a_parent_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be created"):
        await SqliteStore.open(tmp_path / "file" / "db")


@pytest.mark.root
@root
async def test_a_read_only_file_system_is_named_with_a_remedy(small_disk: Path) -> None:
    await (await SqliteStore.open(small_disk / "db")).close()
    await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StoreError, match=r"db: it cannot be created or opened \(Read-only file system\)"):
        await SqliteStore.open(small_disk / "db")


@pytest.mark.root
@root
async def test_a_full_disk_refuses_a_write_and_accepts_the_next_when_there_is_space(small_disk: Path) -> None:
    store = await SqliteStore.open(small_disk / "db")
    await store.save_function(named("before"))
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(StoreError, match=r"db: there is no space left for it: free some space"):
        await store.save_function(named("refused", env_vars={"BIG": "x" * 100_000}))
    assert [f.spec.name for f in await store.functions()] == ["before"]
    filler.unlink()
    await store.save_function(named("after"))
    assert [f.spec.name for f in await store.functions()] == ["after", "before"]
    await store.close()


@pytest.mark.root
@root
async def test_on_a_nearly_full_disk_the_writes_that_fit_are_kept(small_disk: Path) -> None:
    store = await SqliteStore.open(small_disk / "db")
    small = [named(f"small-{i}") for i in range(5)]
    big = named("big", env_vars={"BIG": "x" * 2_000_000})
    outcomes = await asyncio.gather(
        *(store.save_function(f) for f in [*small[:3], big, *small[3:]]), return_exceptions=True
    )
    assert [isinstance(o, StoreError) for o in outcomes] == [False, False, False, True, False, False]
    assert await store.functions() == small
    await store.close()


async def test_a_size_limit_refuses_one_write_of_a_group_and_keeps_the_others(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "db")
    await store._writer.read(lambda c: c.execute("PRAGMA max_page_count = 40").fetchone())
    gate = threading.Event()
    blocked = asyncio.ensure_future(store._writer.read(lambda c: gate.wait()))
    big = named("big", env_vars={"BIG": "x" * 300_000})
    outcomes = asyncio.gather(
        *(store.save_function(f) for f in (named("one"), big, named("two"))), return_exceptions=True
    )
    await asyncio.sleep(0)
    gate.set()
    await blocked
    first, refused, last = await outcomes
    assert (first, last) == (None, None)
    assert isinstance(refused, StoreError) and "no space" in refused.message
    assert [f.spec.name for f in await store.functions()] == ["one", "two"]
    await store.close()


async def test_a_file_locked_by_another_process_refuses_writes_but_not_reads(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "db", busy_timeout=0.05)
    await store.save_function(named("before"))
    other = sqlite3.connect(tmp_path / "db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writes = [store.save_function(named(f"f-{i}")) for i in range(20)]
    begun = time.perf_counter()
    *refused, functions = await asyncio.gather(*writes, store.functions(), return_exceptions=True)
    assert time.perf_counter() - begun < 0.5  # all wait for the lock together, not one after another
    assert all(isinstance(r, StoreLocked) and r.status == 503 for r in refused)
    assert "another process holds it locked" in str(refused[0])
    assert str(tmp_path / "db") in str(refused[0])
    assert isinstance(functions, list) and len(functions) == 1
    other.execute("ROLLBACK")
    other.close()
    await store.save_function(named("after"))
    await store.close()


async def test_a_file_locked_at_the_start_is_named(tmp_path: Path) -> None:
    await (await SqliteStore.open(tmp_path / "db")).close()
    other = sqlite3.connect(tmp_path / "db", isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreLocked, match="another process holds it locked: end that process"):
        await SqliteStore.open(tmp_path / "db", busy_timeout=0.05)
    other.close()


# -- changes by others


async def test_changes_of_others_to_a_database_with_a_second_copy_are_undone_and_not_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rescoldo.store.sqlite.others.SECONDS", 0.0)
    store = await SqliteStore.open(tmp_path / "db", copy=tmp_path / "copy")
    changes = store.watch()
    await store.save_function(named("kept"))
    with closing(sqlite3.connect(tmp_path / "db")) as other:
        other.execute("DELETE FROM function")
        other.commit()
    for _ in range(2):  # the first look restores the database, the second follows
        assert [function.spec.name for function in await store.functions()] == ["kept"]
    assert store.condition.rewritten == 1
    await store.close()
    assert [changed async for changed in changes] == []
