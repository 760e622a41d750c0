"""A worker's functions: looked up by name, kept in step with control's, and kept while control is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from rescoldo.link import documents
from rescoldo.link.documents import (
    AT_ONCE,
    MOST_UNKNOWN,
    RESTART_SECONDS,
    SILENCE_SECONDS,
    UNKNOWN_SECONDS,
    JoinedDocuments,
)
from rescoldo.link.fake import MemoryControl
from rescoldo.link.known import KnownDocuments
from rescoldo.link.protocol import Change, Delivery, Refused, Unreachable
from rescoldo.model.deployed import Deployed
from rescoldo.model.errors import InvalidInput, Superseded
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.names import FunctionId, function_id

pytestmark = pytest.mark.looptime

FN, OTHER = function_id("fn"), function_id("other")


def document(name: str = "fn", namespace: str = "openfaas-fn") -> Deployed:
    return Deployed(Function(FunctionSpec(name, "some:image", namespace), "a" * 64, 1.0))


@dataclass
class Joined:
    control: MemoryControl
    folder: Path
    brought: list[FunctionId] = field(default_factory=list)
    before_bringing: Callable[[], Awaitable[None]] | None = None

    def __post_init__(self) -> None:
        self.known = KnownDocuments(self.folder)
        self.known.load()
        self.documents = JoinedDocuments(self.control, self.known, "openfaas-fn", self._bring)
        self.changes = self.documents.watch()

    async def _bring(self, delivery: Delivery) -> None:
        if self.before_bringing is not None:
            await self.before_bringing()
        self.brought.append(delivery.document.id)

    async def requested(self, function: FunctionId = FN) -> int | None:
        found = await self.documents.get(function)
        return None if found is None else found.requested

    async def change(self, requested: int) -> None:
        """Change the document in control."""
        found = self.control.documents.shared[FN]
        await self.control.documents.put(replace(found, requested=requested))


@pytest.fixture
async def joined(tmp_path: Path) -> AsyncIterator[Joined]:
    """A worker that follows control."""
    made = Joined(MemoryControl(), tmp_path / "known")
    following = asyncio.create_task(made.documents.run())
    await asyncio.sleep(0.1)
    yield made
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_a_function_is_asked_for_once_by_its_name(joined: Joined) -> None:
    await joined.control.documents.put(document())
    assert await joined.documents.all() == []
    found = await asyncio.gather(*(joined.documents.get(FN) for _ in range(20)))
    assert [one.function for one in found if one] == 20 * [document().function]
    assert await joined.documents.get(FN) is not None
    assert joined.control.asked == joined.brought == [FN]
    assert [one.id for one in await joined.documents.all()] == [FN]


async def test_an_unknown_name_is_not_asked_for_again_for_a_while(joined: Joined) -> None:
    for _ in range(5):
        assert await joined.documents.get(OTHER) is None
    assert joined.control.asked == [OTHER]
    await asyncio.sleep(1.1 * UNKNOWN_SECONDS)
    assert await joined.documents.get(OTHER) is None
    assert joined.control.asked == [OTHER, OTHER]


async def test_a_name_that_becomes_known_is_known_at_once(joined: Joined) -> None:
    assert await joined.documents.get(FN) is None
    await joined.control.documents.put(document())
    await asyncio.sleep(UNKNOWN_SECONDS / 10)
    assert await joined.documents.get(FN) is not None


@pytest.mark.parametrize("name", ["fn.elsewhere", "fn", "", "../etc.openfaas-fn", "Fn.openfaas-fn", "a b.openfaas-fn"])
async def test_other_namespaces_and_what_is_no_name_are_not_asked_for(joined: Joined, name: str) -> None:
    await joined.control.documents.put(document(namespace="elsewhere"))
    assert await joined.documents.get(FunctionId(name)) is None  # type: ignore[arg-type]
    assert joined.control.asked == []


async def test_many_unknown_names_at_once_cost_a_bounded_memory_and_few_questions_at_a_time(joined: Joined) -> None:
    now = most = 0
    deliver = joined.control.deliver

    async def counted(function: FunctionId) -> Delivery | None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            return await deliver(function)
        finally:
            now -= 1

    joined.control.deliver = counted  # type: ignore[method-assign]
    await asyncio.gather(*(joined.documents.get(function_id(f"n{n}")) for n in range(MOST_UNKNOWN + 500)))
    assert most == AT_ONCE
    assert len(joined.documents._unknown) <= MOST_UNKNOWN


async def test_a_change_is_taken_over_and_told(joined: Joined) -> None:
    await joined.control.documents.put(document())
    assert await joined.requested() == 0
    await joined.change(3)
    assert await anext(joined.changes) == FN
    assert await joined.requested() == 3
    await joined.control.documents.delete(FN)
    assert await anext(joined.changes) == FN
    assert await joined.documents.get(FN) is None


async def test_changes_of_functions_that_nobody_asked_for_are_left_alone(joined: Joined) -> None:
    await joined.control.documents.put(document("other"))
    await joined.control.documents.put(document())
    await joined.documents.get(FN)
    await joined.change(1)
    assert await anext(joined.changes) == FN
    assert joined.control.asked == [FN, FN]


async def test_our_own_saves_are_kept_and_asked_for_no_more(joined: Joined) -> None:
    await joined.documents.put(document())
    version = (await joined.documents.all())[0].version
    assert await joined.documents.put(replace(document(), version=version, requested=2)) > version
    await asyncio.sleep(0.1)
    assert await joined.requested() == 2
    assert joined.control.asked == []
    await joined.documents.delete(FN)
    assert joined.control.documents.shared == {}
    assert await joined.documents.get(FN) is None


async def test_a_save_after_anothers_fails_and_the_others_is_told(joined: Joined) -> None:
    await joined.control.documents.put(document())
    mine = await joined.documents.get(FN)
    assert mine is not None
    found = joined.control.documents.shared[FN]
    await joined.control.documents.put(replace(found, requested=7))
    with pytest.raises(Superseded):
        await joined.documents.put(replace(mine, requested=1))
    assert await joined.requested() == 7
    assert await anext(joined.changes) == FN


async def test_a_removal_that_is_told_while_the_answer_is_on_its_way_wins(joined: Joined) -> None:
    await joined.control.documents.put(document())

    async def removed() -> None:
        joined.before_bringing = None
        await joined.control.documents.delete(FN)
        await asyncio.sleep(0.1)

    joined.before_bringing = removed
    assert await joined.documents.get(FN) is None
    assert await joined.documents.all() == []


async def test_a_late_answer_does_not_bring_an_earlier_version_back(joined: Joined) -> None:
    await joined.control.documents.put(document())
    await joined.documents.get(FN)

    async def changed() -> None:
        joined.before_bringing = None
        await joined.change(2)
        await joined.documents.put(replace(joined.control.documents.shared[FN], requested=3))

    joined.before_bringing = changed
    await joined.change(1)
    await asyncio.sleep(0.1)
    assert await joined.requested() == 3


async def test_without_control_known_functions_stay_and_others_are_unreachable(joined: Joined) -> None:
    await joined.control.documents.put(document())
    await joined.documents.get(FN)
    joined.control.leave()
    await asyncio.sleep(60)
    assert await joined.requested() == 0
    with pytest.raises(Unreachable, match="cannot be reached now"):
        await joined.documents.get(OTHER)
    with pytest.raises(Unreachable):
        await joined.documents.put(document("third"))
    assert joined.documents.unconfirmed > 55


async def test_a_name_that_is_looked_up_while_control_is_restarted_waits_for_it(joined: Joined) -> None:
    await joined.control.documents.put(document())
    joined.control.leave()
    asking = [asyncio.create_task(joined.documents.get(FN)) for _ in range(3)]
    await asyncio.sleep(RESTART_SECONDS - 1)
    assert not any(one.done() for one in asking)
    joined.control.come_back()
    assert all(await asyncio.gather(*asking))


async def test_a_name_waits_no_longer_than_a_restart_takes(joined: Joined) -> None:
    joined.control.leave()
    begun = asyncio.get_running_loop().time()
    with pytest.raises(Unreachable):
        await joined.documents.get(FN)
    assert RESTART_SECONDS <= asyncio.get_running_loop().time() - begun < RESTART_SECONDS + 2
    with pytest.raises(Unreachable):  # and none waits after that
        async with asyncio.timeout(0.1):
            await joined.documents.get(OTHER)


async def test_only_so_many_names_wait_for_control(joined: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MOST_WAITING", 5)
    joined.control.leave()
    asking = [asyncio.create_task(joined.documents.get(function_id(f"fn-{number}"))) for number in range(8)]
    await asyncio.sleep(1)
    assert sum(one.done() for one in asking) == 3
    assert all(isinstance(one, Unreachable) for one in await asyncio.gather(*asking, return_exceptions=True))


async def test_after_a_gap_all_that_is_known_is_compared(joined: Joined) -> None:
    for name in ("fn", "gone", "same"):
        await joined.control.documents.put(document(name))
        await joined.documents.get(function_id(name))
    joined.control.asked.clear()
    joined.control.leave()
    await asyncio.sleep(5)
    await joined.change(4)
    await joined.control.documents.delete(function_id("gone"))
    joined.control.come_back()
    told = {await anext(joined.changes), await anext(joined.changes)}
    assert told == {FN, function_id("gone")}
    assert await joined.requested() == 4
    assert await joined.documents.get(function_id("gone")) is None
    assert joined.control.asked == [FN, function_id("gone")], "the one that is the same is not read again"
    assert joined.documents.unconfirmed < 3


async def test_a_stream_that_falls_silent_is_begun_again(joined: Joined) -> None:
    begun = 0
    changes = joined.control.changes

    async def silent() -> AsyncIterator[Change | None]:
        nonlocal begun
        begun += 1
        yield None
        if begun == 1:
            await asyncio.sleep(1e6)
        async for change in changes():
            yield change

    joined.control.changes = silent  # type: ignore[method-assign]
    joined.control.leave()
    await asyncio.sleep(0.1)
    joined.control.come_back()
    await joined.control.documents.put(document())
    await joined.documents.get(FN)
    await joined.change(1)
    async with asyncio.timeout(2 * SILENCE_SECONDS + 5):
        assert await anext(joined.changes) == FN
    assert await joined.requested() == 1


async def test_what_a_function_needs_and_cannot_be_had_is_said(joined: Joined) -> None:
    async def damaged() -> None:
        raise InvalidInput("its bundle is damaged")

    await joined.control.documents.put(document())
    joined.before_bringing = damaged
    for _ in range(3):
        with pytest.raises(Refused, match="its bundle is damaged"):
            await joined.documents.get(FN)
    assert joined.control.asked == [FN], "a refused function is asked for no more often than an unknown one"
    assert joined.documents.refusals == {FN: "its bundle is damaged"}
    joined.before_bringing = None
    await asyncio.sleep(1.1 * UNKNOWN_SECONDS)
    assert await joined.documents.get(FN) is not None
    assert joined.documents.refusals == {}
    joined.before_bringing = damaged
    await joined.change(1)
    await asyncio.sleep(0.1)
    assert await joined.requested() == 0, "the present one goes on"
    assert joined.documents.refusals == {FN: "its bundle is damaged"}
    joined.before_bringing = None
    await joined.change(2)
    await asyncio.sleep(0.1)
    assert joined.documents.refusals == {}


async def test_a_refused_function_is_asked_for_again_when_it_changes(joined: Joined) -> None:
    async def damaged() -> None:
        raise InvalidInput("its bundle is damaged")

    await joined.control.documents.put(document())
    joined.before_bringing = damaged
    with pytest.raises(Refused):
        await joined.documents.get(FN)
    joined.before_bringing = None
    await joined.change(1)
    await asyncio.sleep(UNKNOWN_SECONDS / 10)
    assert await joined.requested() == 1


@pytest.mark.parametrize("away", [False, True])
async def test_a_refusal_ends_with_its_function(joined: Joined, away: bool) -> None:
    async def damaged() -> None:
        raise InvalidInput("its bundle is damaged")

    await joined.control.documents.put(document())
    joined.before_bringing = damaged
    with pytest.raises(Refused):
        await joined.documents.get(FN)
    if away:
        joined.control.leave()
        await asyncio.sleep(1)
    await joined.control.documents.delete(FN)
    joined.control.come_back()
    await asyncio.sleep(10)
    assert joined.documents.refusals == {}
    assert await joined.documents.get(FN) is None


async def test_an_answer_that_is_not_controls_does_not_end_the_following(joined: Joined) -> None:
    versions = joined.control.versions

    async def nonsense() -> dict[FunctionId, int]:
        joined.control.versions = versions  # type: ignore[method-assign]
        raise InvalidInput("this is another server")

    joined.control.leave()
    await asyncio.sleep(0.1)
    joined.control.versions = nonsense  # type: ignore[method-assign]
    joined.control.come_back()
    await asyncio.sleep(10)
    assert joined.documents.unconfirmed < 3


async def test_the_next_controller_knows_what_this_one_knew_and_compares_it(joined: Joined) -> None:
    for name in ("fn", "gone"):
        await joined.control.documents.put(document(name))
        await joined.documents.get(function_id(name))
    joined.control.leave()
    (joined.folder / "damaged.json").write_text("{")
    stale = (joined.folder / f"{FN}.json").read_text().replace('"requested": 0', '"requested": 9')
    (joined.folder / f"{FN}.new").write_text(stale)  # of a controller that was killed before it took its place
    following = Joined(joined.control, joined.folder)
    running = asyncio.create_task(following.documents.run())
    await asyncio.sleep(30)
    assert await following.requested() == 0, "control is away"
    assert [one.id for one in await following.documents.all()] == [FN, function_id("gone")]
    await joined.change(5)
    await joined.control.documents.delete(function_id("gone"))
    joined.control.come_back()
    assert {await anext(following.changes), await anext(following.changes)} == {FN, function_id("gone")}
    assert await following.requested() == 5
    assert sorted(path.name for path in joined.folder.iterdir()) == [f"{FN}.json"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_bundle_is_needed_from_its_delivery_until_its_function_is_gone(joined: Joined) -> None:
    """Else it could be collected between the look-up and the first instance."""

    async def while_bringing() -> None:
        seen.append(joined.documents.digests())

    seen: list[set[str]] = []
    joined.before_bringing = while_bringing
    await joined.control.documents.put(document())
    assert joined.documents.digests() == set()
    await joined.documents.get(FN)
    assert (seen, joined.documents.digests()) == ([{"a" * 64}], {"a" * 64})
    await joined.control.documents.delete(FN)
    await asyncio.sleep(0.1)
    assert joined.documents.digests() == set()


async def test_who_lets_go_of_a_removed_function_does_not_ask_control(joined: Joined) -> None:
    await joined.control.documents.put(document())
    await joined.documents.get(FN)
    await joined.control.documents.delete(FN)
    assert await anext(joined.changes) == FN
    joined.control.leave()
    assert await joined.documents.get(FN) is None
