"""Which instances may start, and which are killed, where no cgroup limits memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rescoldo.policy import memory as module
from rescoldo.policy.memory import (
    LONGEST_PAUSE,
    SHORTEST_PAUSE,
    USUAL_AT_FIRST,
    Use,
    Usual,
    fits,
    over_limit,
    pause,
    reserve,
    room,
    to_free,
)

MIB = 2**20


@pytest.mark.parametrize(("limit", "expected"), [(500, 50), (200, 32), (8192, 512), (40, 20)])
def test_a_tenth_of_a_container_is_reserve_within_bounds(limit: int, expected: int) -> None:
    assert reserve(limit * MIB) == expected * MIB


def test_a_start_fits_beside_what_is_used_and_what_others_will_take() -> None:
    assert fits(500 * MIB, 380 * MIB, 20 * MIB, 16 * MIB)
    assert fits(500 * MIB, 380 * MIB, 20 * MIB, 25 * MIB)
    assert not fits(500 * MIB, 380 * MIB, 20 * MIB, 26 * MIB)
    assert room(500 * MIB, 460 * MIB) == -10 * MIB


@given(limit=st.integers(0, 2**40), used=st.integers(0, 2**40), usual=st.integers(0, 2**30))
def test_what_was_admitted_leaves_half_of_the_reserve_above_the_reserve(limit: int, used: int, usual: int) -> None:
    assert fits(limit, used, 0, usual) == (room(limit, used + usual) >= reserve(limit) // 2)


def test_polls_come_faster_the_less_room_there_is() -> None:
    pauses = [pause(mib * MIB) for mib in (4096, 2048, 200, 100, 0, -50)]
    assert pauses == sorted(pauses, reverse=True)
    assert pauses[0] == LONGEST_PAUSE
    assert pauses[2] == pytest.approx(0.0244, abs=0.0001)
    assert pauses[-2:] == [SHORTEST_PAUSE] * 2


def use(name: str, most: int, usual: int, limit: int = 0, own: int | None = None) -> Use[str]:
    return Use(name, most if own is None else own, most, limit, usual)


def test_an_instance_exceeds_its_limit_by_what_is_certainly_its_own() -> None:
    uses = [use("a", 65, 0, limit=64), use("b", 64, 0, limit=64), use("c", 900, 0), use("d", 90, 0, limit=64, own=60)]
    assert [found.instance for found in over_limit(uses)] == ["a"]


def test_the_one_that_grew_most_beyond_what_is_usual_is_killed_not_the_largest() -> None:
    chosen = to_free([use("model", 210, 200), use("bomb", 150, 10), use("idle", 30, 10)])
    assert chosen is not None
    assert chosen.instance == "bomb"


def test_of_those_that_grew_equally_the_largest_is_killed() -> None:
    chosen = to_free([use("small", 30, 10), use("large", 120, 100)])
    assert chosen is not None
    assert chosen.instance == "large"
    assert to_free([]) is None


def test_an_unknown_function_is_expected_to_need_little_and_no_more_than_its_limit() -> None:
    usual = Usual[str]()
    assert usual.of("a", 512 * MIB) == usual.of("a", 0) == USUAL_AT_FIRST
    assert usual.of("a", 8 * MIB) == 8 * MIB
    usual.learn("a", 100 * MIB)
    assert (usual.of("a", 0), usual.of("a", 64 * MIB), usual.of("b", 0)) == (100 * MIB, 64 * MIB, USUAL_AT_FIRST)


def test_only_the_functions_seen_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KNOWN", 2)
    usual = Usual[str]()
    for name in ("a", "b", "a", "c"):
        usual.learn(name, 1)
    assert [usual.of(name, 0) for name in ("a", "b", "c")] == [1, USUAL_AT_FIRST, 1]
