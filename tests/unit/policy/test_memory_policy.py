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


@pytest.mark.parametrize(
    ("limit", "cpus", "expected"),
    [
        (500, 2, 50), (200, 2, 40), (200, 1, 32), (8192, 2, 512), (40, 2, 20), (500, 8, 100), (2048, 2, 204),
        (2048, 16, 327),
    ],
)  # fmt: skip
def test_a_tenth_and_what_grows_before_a_stop_is_reserve_within_bounds(limit: int, cpus: int, expected: int) -> None:
    assert reserve(limit * MIB, cpus) // MIB == expected


def test_a_start_fits_beside_what_is_used_and_what_others_will_take() -> None:
    assert fits(500 * MIB, 380 * MIB, 20 * MIB, 16 * MIB, cpus=2)
    assert fits(500 * MIB, 380 * MIB, 20 * MIB, 25 * MIB, cpus=2)
    assert not fits(500 * MIB, 380 * MIB, 20 * MIB, 26 * MIB, cpus=2)
    assert room(500 * MIB, 460 * MIB, cpus=2) == -10 * MIB


@given(limit=st.integers(0, 2**40), used=st.integers(0, 2**40), usual=st.integers(0, 2**30), cpus=st.floats(0.1, 64))
def test_what_was_admitted_leaves_half_of_the_reserve_above_the_reserve(
    limit: int, used: int, usual: int, cpus: float
) -> None:
    assert fits(limit, used, 0, usual, cpus) == (room(limit, used + usual, cpus) >= reserve(limit, cpus) // 2)


def test_polls_come_faster_the_less_room_there_is() -> None:
    pauses = [pause(mib * MIB, cpus=2) for mib in (4096, 2048, 200, 100, 0, -50)]
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


def test_nobody_who_has_not_grown_is_killed_while_others_free_their_memory() -> None:
    calm, grown = use("calm", 103 * MIB, 100 * MIB), use("grown", 24 * MIB, 20 * MIB)
    assert to_free([calm], freeing=True) is None
    assert to_free([calm]) == calm
    assert to_free([calm, grown], freeing=True) == grown
