"""What every store promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.names import FunctionId, function_id
from rescoldo.model.revision import Revision
from rescoldo.model.standing import PLAIN, Standing
from rescoldo.store.memory import MemoryStore
from rescoldo.store.protocol import MinuteUsage, Namespace, Store
from rescoldo.store.sqlite.store import SqliteStore

A, B = "a" * 64, "b" * 64

SPEC = FunctionSpec(
    name="echo",
    image="me/echo:1",
    namespace="blue",
    env_process="python index.py",
    env_vars={"KEY": "wört\n", "EMPTY": ""},
    labels={"com.openfaas.scale.min": "1"},
    annotations={"topic": "x"},
    constraints=("a=b",),
    secrets=("s",),
    limits={"memory": "40Mi"},
    requests={"cpu": "100m"},
    read_only_root_filesystem=True,
)
USAGE = MinuteUsage(function_id("echo"), 100, 200, False, 3, 10, 20, 30, 40)


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened: Store = MemoryStore() if request.param == "memory" else await SqliteStore.open(tmp_path / "db")
    yield opened
    await opened.close()


async def test_a_saved_function_comes_back_with_every_field(store: Store) -> None:
    function = Function(SPEC, digest=A, created_at=1234.5, revision=7)
    await store.save_function(function)
    assert await store.functions() == [function]


async def test_saving_a_function_again_replaces_it(store: Store) -> None:
    await store.save_function(Function(SPEC, A, 1.0))
    newer = Function(replace(SPEC, labels={}), B, 2.0, revision=2)
    await store.save_function(newer)
    assert await store.functions() == [newer]


async def test_requested_replicas_are_kept_until_they_are_set_to_zero(store: Store) -> None:
    other = replace(SPEC, name="other")
    for spec in (SPEC, other):
        await store.save_function(Function(spec, A, 1.0))
    for function, number in ((SPEC.id, 3), (other.id, 2), (SPEC.id, 5)):
        await store.save_requested_replicas(function, number)
    assert await store.requested_replicas() == {SPEC.id: 5, other.id: 2}
    await store.save_function(Function(SPEC, B, 1.0, revision=2))
    assert await store.requested_replicas() == {SPEC.id: 5, other.id: 2}
    await store.save_requested_replicas(other.id, 0)
    assert await store.requested_replicas() == {SPEC.id: 5}


async def test_the_standing_of_a_function_is_kept_and_deleted_with_it(store: Store) -> None:
    other, failing = replace(SPEC, name="other"), Standing(untried=True, failure="exit code 1\nwört")
    await store.save_function(Function(SPEC, A, 1.0), standing=Standing(untried=True))
    await store.save_function(Function(other, A, 1.0))
    await store.save_standing(other.id, Standing(paused=True))
    assert await store.standings() == {SPEC.id: Standing(untried=True), other.id: Standing(paused=True)}
    await store.save_function(Function(SPEC, B, 1.0, revision=2))
    await store.save_standing(SPEC.id, failing)
    assert (await store.standings())[SPEC.id] == failing
    await store.save_function(Function(SPEC, A, 1.0, revision=3), standing=PLAIN)
    await store.delete_function(other.id)
    await store.save_standing(other.id, failing)
    assert await store.standings() == {}


async def test_requested_replicas_of_a_missing_function_are_not_kept(store: Store) -> None:
    await store.save_requested_replicas(SPEC.id, 3)
    assert await store.requested_replicas() == {}
    await store.save_function(Function(SPEC, A, 1.0))
    await store.save_requested_replicas(SPEC.id, 3)
    await store.delete_function(SPEC.id)
    await store.save_function(Function(SPEC, A, 1.0))
    assert await store.requested_replicas() == {}


async def test_the_same_name_in_another_namespace_is_another_function(store: Store) -> None:
    await store.save_function(Function(SPEC, A, 1.0))
    await store.save_function(Function(replace(SPEC, namespace="red"), A, 1.0))
    assert [f.id for f in await store.functions()] == ["echo.blue", "echo.red"]


async def test_a_deleted_function_is_gone_and_deleting_it_again_is_no_error(store: Store) -> None:
    await store.save_function(Function(SPEC, A, 1.0))
    await store.delete_function(SPEC.id)
    await store.delete_function(SPEC.id)
    assert await store.functions() == []


async def test_a_saved_generation_and_split_come_back(store: Store) -> None:
    function = Function(SPEC, A, 1.0, revision=4, revised_at=2.5, generation=3, traffic={4: 90, 2: 10})
    await store.save_function(function)
    assert await store.functions() == [function]


async def test_a_replaced_revision_can_be_read(store: Store) -> None:
    await store.save_function(Function(SPEC, A, 1.0, revised_at=1.0))
    newer = replace(SPEC, labels={})
    await store.save_function(Function(newer, B, 1.0, revision=2, revised_at=2.0))
    await store.save_function(Function(newer, A, 1.0, revision=3, revised_at=3.0))
    assert await store.revisions(SPEC.id) == [Revision(2, newer, B, 2.0), Revision(1, SPEC, A, 1.0)]
    assert [function.revision for function in await store.functions()] == [3]


async def test_a_new_generation_or_split_of_the_same_revision_is_no_past_revision(store: Store) -> None:
    function = Function(SPEC, A, 1.0)
    await store.save_function(function)
    await store.save_function(replace(function, generation=1))
    await store.save_function(replace(function, generation=1, traffic={1: 100}))
    assert await store.revisions(SPEC.id) == []


async def test_a_failed_revision_is_kept_with_its_reason_and_serves_nothing(store: Store) -> None:
    function = Function(SPEC, A, 1.0)
    await store.save_function(function)
    failed = Revision(2, SPEC, B, 2.0, "ValueError: no\nworse")
    await store.save_failed(SPEC.id, failed)
    assert await store.functions() == [function]
    assert await store.revisions(SPEC.id) == [failed]


async def test_the_last_revisions_stay_and_failed_ones_push_none_out(store: Store) -> None:
    for number in range(1, 9):
        await store.save_function(Function(SPEC, A, 1.0, revision=number), keep=3)
    for number in range(9, 15):
        await store.save_failed(SPEC.id, Revision(number, SPEC, A, 1.0, "no"), keep=3)
    assert [(one.number, one.failure) for one in await store.revisions(SPEC.id)] == [
        (14, "no"), (13, "no"), (12, "no"), (7, ""), (6, ""),
    ]


async def test_revision_digests_are_only_those_of_past_revisions_that_served(store: Store) -> None:
    await store.save_function(Function(SPEC, A, 1.0))
    assert await store.revision_digests() == set()
    await store.save_function(Function(SPEC, B, 1.0, revision=2))
    await store.save_failed(SPEC.id, Revision(3, SPEC, "c" * 64, 1.0, "no"))
    assert await store.revision_digests() == {A}


async def test_deleting_a_function_deletes_its_revisions(store: Store) -> None:
    await store.save_function(Function(SPEC, A, 1.0))
    await store.save_function(Function(SPEC, B, 1.0, revision=2))
    await store.delete_function(SPEC.id)
    await store.save_function(Function(SPEC, B, 1.0))
    assert await store.revisions(SPEC.id) == []
    assert await store.revision_digests() == set()


async def test_an_image_name_means_the_digest_saved_last(store: Store) -> None:
    await store.save_bundle("me/echo", A, 10, 1.0)
    second = await store.save_bundle("me/echo", B, 20, 2.0)
    assert (second.image, second.digest, second.size, second.created_at) == ("me/echo", B, 20, 2.0)
    assert await store.bundles() == [second]


async def test_a_digest_keeps_its_gid_under_every_image_name(store: Store) -> None:
    first = await store.save_bundle("one", A, 10, 1.0)
    other = await store.save_bundle("two", B, 10, 1.0)
    again = await store.save_bundle("three", A, 10, 2.0)
    assert again.gid == first.gid != other.gid
    assert [bundle.image for bundle in await store.bundles()] == ["one", "three", "two"]


async def test_a_digest_that_lost_its_names_still_keeps_its_gid(store: Store) -> None:
    first = await store.save_bundle("one", A, 10, 1.0)
    await store.save_bundle("one", B, 10, 2.0)
    assert (await store.save_bundle("one", A, 10, 3.0)).gid == first.gid


async def test_a_second_digest_never_gets_the_gid_of_a_deleted_one(store: Store) -> None:
    gone = await store.save_bundle("one", A, 10, 1.0)
    await store.delete_bundle(A)
    assert (await store.save_bundle("one", B, 10, 2.0)).gid > gone.gid


async def test_deleting_a_bundle_forgets_all_names_that_still_mean_it(store: Store) -> None:
    await store.save_bundle("one", A, 10, 1.0)
    await store.save_bundle("two", A, 10, 1.0)
    kept = await store.save_bundle("three", B, 10, 1.0)
    await store.delete_bundle(A)
    await store.delete_bundle(A)
    assert await store.bundles() == [kept]


async def test_namespaces_come_back_sorted_with_labels_and_annotations(store: Store) -> None:
    red = Namespace("red", {"a": "1"}, {"openfaas": "1"})
    await store.save_namespace(red)
    await store.save_namespace(Namespace("blue", {}, {}))
    await store.save_namespace(Namespace("blue", {"b": "2"}, {}))
    assert await store.namespaces() == [Namespace("blue", {"b": "2"}, {}), red]
    await store.delete_namespace("blue")
    await store.delete_namespace("blue")
    assert await store.namespaces() == [red]


async def test_usage_of_one_minute_adds_up(store: Store) -> None:
    await store.add_usage([USAGE, USAGE])
    await store.add_usage([replace(USAGE, calls=1, queue_ms=1, run_ms=1, bytes_in=1, bytes_out=1)])
    expected = replace(USAGE, calls=7, queue_ms=21, run_ms=41, bytes_in=61, bytes_out=81)
    assert await store.usage(None, 0) == [expected]


async def test_pruned_usage_is_gone_and_its_calls_stay_counted(store: Store) -> None:
    rows = [replace(USAGE, minute=minute) for minute in (98, 99, 100)]
    await store.add_usage(rows)
    await store.prune_usage(99, 0)
    assert await store.usage(None, 0) == rows[1:]
    assert await store.invocations() == {USAGE.function: 9}


async def test_pruning_sums_old_minutes_by_hour_however_often_it_runs(store: Store) -> None:
    minutes = (59, 60, 61, 119, 120, 121)
    await store.add_usage([replace(USAGE, minute=minute) for minute in minutes])
    await store.add_usage([replace(USAGE, minute=61, cold=True), replace(USAGE, minute=61, status=500)])
    thrice = MinuteUsage(USAGE.function, 60, USAGE.status, False, 9, 30, 60, 90, 120)
    kept = [
        replace(USAGE, minute=0), thrice, replace(USAGE, minute=60, cold=True), replace(USAGE, minute=60, status=500),
        replace(USAGE, minute=120), replace(USAGE, minute=121),
    ]  # fmt: skip
    for _ in range(2):
        await store.prune_usage(0, 120)
        assert await store.usage(None, 0) == kept
    await store.add_usage([replace(USAGE, minute=62, cold=True)])  # from an edge whose clock was behind
    await store.prune_usage(60, 120)
    late = replace(USAGE, minute=60, cold=True, calls=6, queue_ms=20, run_ms=40, bytes_in=60, bytes_out=80)
    assert await store.usage(None, 0) == [thrice, late, *kept[3:]]


async def test_usage_is_kept_apart_by_function_minute_status_and_cold(store: Store) -> None:
    rows = [
        USAGE,
        replace(USAGE, cold=True),
        replace(USAGE, status=500),
        replace(USAGE, minute=101),
        replace(USAGE, function=function_id("other")),
    ]
    await store.add_usage(reversed(rows))
    assert await store.usage(None, 100) == rows
    assert await store.usage(USAGE.function, 101) == [rows[3]]
    assert await store.usage(function_id("other"), 0) == [rows[4]]


async def test_invocations_count_every_call_and_outlive_the_function(store: Store) -> None:
    await store.save_function(Function(SPEC, A, 1.0))
    await store.add_usage([replace(USAGE, function=SPEC.id), replace(USAGE, function=SPEC.id, minute=200)])
    await store.delete_function(SPEC.id)
    assert await store.invocations() == {SPEC.id: 6}


async def test_calls_of_a_removed_function_stay_counted_while_a_minute_of_it_is_kept(store: Store) -> None:
    other = replace(SPEC, name="other")
    await store.save_function(Function(other, A, 1.0))
    await store.add_usage([replace(USAGE, function=SPEC.id), replace(USAGE, function=other.id)])
    await store.prune_usage(100, 0)
    assert await store.invocations() == {SPEC.id: 3, other.id: 3}
    await store.prune_usage(101, 0)
    assert await store.invocations() == {other.id: 3}


async def test_no_usage_is_no_error(store: Store) -> None:
    await store.add_usage([])
    assert await store.invocations() == {}


async def test_concurrent_writes_all_arrive(store: Store) -> None:
    names = [f"f-{i:03d}" for i in range(200)]
    await asyncio.gather(*(store.save_function(Function(replace(SPEC, name=n), A, 1.0)) for n in names))
    assert [f.id for f in await store.functions()] == [FunctionId(f"{n}.blue") for n in names]


async def test_closing_twice_is_no_error(store: Store) -> None:
    await store.close()
    await store.close()


async def test_a_batch_counts_once_however_often_it_comes(tmp_path: Path) -> None:
    opened = [MemoryStore(), await SqliteStore.open(tmp_path / "db")]
    for store in opened:
        assert await store.add_batch("a", 1, [USAGE], 100)
        assert not await store.add_batch("a", 1, [USAGE], 100)
        assert await store.add_batch("a", 2, [USAGE, USAGE], 101)
        assert not await store.add_batch("a", 1, [USAGE], 102)  # one that was overtaken
        assert await store.add_batch("b", 1, [USAGE], 102)  # another sender's numbers are its own
        assert await store.invocations() == {USAGE.function: 4 * USAGE.calls}
        await store.close()
