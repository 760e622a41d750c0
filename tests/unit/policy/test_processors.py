"""Which instances get the lowest priority because they use up the processors."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rescoldo.policy.processors import BUSY, KEPT, greedy

shares = st.dictionaries(st.integers(), st.floats(0, 4), max_size=8)


def test_who_uses_all_processors_makes_way() -> None:
    assert greedy({"spins": 1.9, "calm": 0.05}, low=0, cpus=2) == ["spins"]


def test_who_uses_one_of_two_leaves_the_other_and_keeps_its_priority() -> None:
    assert greedy({"busy": 1.0, "calm": 0.1}, low=0, cpus=2) == []


def test_so_many_make_way_that_the_others_use_half() -> None:
    assert greedy({"a": 0.7, "b": 0.66, "c": 0.6}, low=0, cpus=2) == ["a", "b"]
    assert greedy({"a": 0.7, "b": 0.3}, low=1.0, cpus=2) == []


@given(used=shares, low=st.floats(0, 4), cpus=st.floats(0.1, 8))
def test_nobody_makes_way_for_nothing(used: dict[int, float], low: float, cpus: float) -> None:
    found = greedy(used, low, cpus)
    left = sum(used.values()) - sum(used[one] for one in found)
    if sum(used.values()) + low < BUSY * cpus:
        assert found == []
    elif found:
        assert left <= KEPT * cpus + 1e-6
        assert left + used[found[-1]] > KEPT * cpus - 1e-6
