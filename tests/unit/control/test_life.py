"""A revision's states: each transition from each state leads to the state in life.py or is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from rescoldo.control.fleet.awake import Awake
from rescoldo.control.fleet.entry import Entry
from rescoldo.control.fleet.life import NEXT, IllegalTransition, Life, Stage
from rescoldo.model.function import Function, FunctionPolicy, FunctionSpec
from rescoldo.model.names import SlotName
from rescoldo.policy.idle import Activity

FUNCTION = Function(FunctionSpec("fn", "some:image"), "a" * 64, 0.0)


def an_awake() -> Awake:
    return Awake(SlotName("s1"), FUNCTION, FunctionPolicy(), 1, Activity(0.0, 0), 0.0)


def a_wake() -> Any:
    return asyncio.get_running_loop().create_future()


def entry_in(life: Life) -> Entry:
    entry = Entry(FUNCTION, FunctionPolicy())
    if life is Life.WAKING:
        entry.begin_wake(a_wake())
    if life in (Life.AWAKE, Life.CLOSING):
        entry.serve(an_awake())
    if life is Life.CLOSING:
        entry.close()
    if life is Life.REMOVED:
        entry.remove()
    assert entry.life is life
    return entry


TRANSITIONS: dict[str, tuple[Callable[[Entry], Any], dict[Life, Life]]] = {
    "begin_wake": (lambda entry: entry.begin_wake(a_wake()), {Life.ASLEEP: Life.WAKING}),
    "give_up": (Entry.give_up, {Life.WAKING: Life.ASLEEP}),
    "serve": (lambda entry: entry.serve(an_awake()), {life: Life.AWAKE for life in Life if life is not Life.REMOVED}),
    "close": (Entry.close, {Life.AWAKE: Life.CLOSING}),
    "reopen": (Entry.reopen, {Life.CLOSING: Life.AWAKE}),
    "fall_asleep": (Entry.fall_asleep, {Life.CLOSING: Life.ASLEEP}),
    "let_go": (
        Entry.let_go, {life: Life.ASLEEP for life in Life if life is not Life.REMOVED} | {Life.REMOVED: Life.REMOVED}
    ),
    "remove": (Entry.remove, {Life.ASLEEP: Life.REMOVED}),
}


@pytest.mark.parametrize("name", TRANSITIONS)
@pytest.mark.parametrize("life", Life)
async def test_each_transition_leads_to_its_state_or_is_refused(name: str, life: Life) -> None:
    act, allowed = TRANSITIONS[name]
    entry = entry_in(life)
    if life in allowed:
        act(entry)
        assert entry.life is allowed[life]
        return
    with pytest.raises(IllegalTransition):
        act(entry)
    assert entry.life is life, "a refused transition changes nothing"


@pytest.mark.parametrize("life", [Life.AWAKE, Life.CLOSING])
async def test_a_revision_that_takes_over_drains_the_one_that_served(life: Life) -> None:
    entry = entry_in(life)
    before, after = entry.awake, an_awake()
    assert entry.serve(after) is before
    assert entry.awake is after
    assert (before.stage if before else None, after.stage) == (Stage.DRAINING, Stage.SERVING)


async def test_an_entry_that_serves_has_no_wake_any_more() -> None:
    entry = entry_in(Life.WAKING)
    assert entry.serve(an_awake()) is None
    assert entry.waking is None


async def test_the_route_names_the_slot_only_while_awake() -> None:
    slots = {life: entry_in(life).route.slot for life in Life}
    assert slots == {**dict.fromkeys(Life), Life.AWAKE: "s1"}


def test_a_draining_or_ending_revision_never_serves_again() -> None:
    for last in (Stage.DRAINING, Stage.ENDING):
        assert Stage.SERVING not in NEXT[last]
    awake = an_awake()
    awake.drain()
    awake.drain()
    with pytest.raises(IllegalTransition, match=r"SERVING after Stage\.DRAINING"):
        awake.enter(Stage.SERVING)


async def test_the_next_transition_reports_a_broken_invariant() -> None:
    entry = entry_in(Life.AWAKE)
    entry.waking = a_wake()
    with pytest.raises(IllegalTransition):
        entry.let_go()
