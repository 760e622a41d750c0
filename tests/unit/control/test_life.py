"""A revision's states: each transition from each state either leads where life.py says, or is refused."""

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
async def test_each_transition_leads_where_it_should_or_is_refused(name: str, life: Life) -> None:
    act, allowed = TRANSITIONS[name]
    entry = entry_in(life)
    if life in allowed:
        act(entry)
        assert entry.life is allowed[life]
        return
    with pytest.raises(IllegalTransition):
        act(entry)
    assert entry.life is life, "what is refused changes nothing"


@pytest.mark.parametrize("life", [Life.AWAKE, Life.CLOSING])
async def test_what_takes_over_makes_room_of_what_served(life: Life) -> None:
    entry = entry_in(life)
    before, after = entry.awake, an_awake()
    assert entry.serve(after) is before
    assert entry.awake is after
    assert (before.stage if before else None, after.stage) == (Stage.DRAINING, Stage.SERVING)


async def test_a_wake_that_another_took_over_is_not_its_wake_any_more() -> None:
    entry = entry_in(Life.WAKING)
    assert entry.serve(an_awake()) is None
    assert entry.waking is None


async def test_the_edge_is_led_to_the_slot_only_while_it_is_awake() -> None:
    slots = {life: entry_in(life).route.slot for life in Life}
    assert slots == {**dict.fromkeys(Life), Life.AWAKE: "s1"}


def test_what_drains_or_ends_never_serves_again() -> None:
    for last in (Stage.DRAINING, Stage.ENDING):
        assert Stage.SERVING not in NEXT[last]
    awake = an_awake()
    awake.drain()
    awake.drain()
    with pytest.raises(IllegalTransition, match=r"SERVING after Stage\.DRAINING"):
        awake.enter(Stage.SERVING)


async def test_a_broken_invariant_shows_at_the_next_transition() -> None:
    entry = entry_in(Life.AWAKE)
    entry.waking = a_wake()
    with pytest.raises(IllegalTransition):
        entry.let_go()
