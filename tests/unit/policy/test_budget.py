from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rescoldo.policy.budget import BURST_SECONDS, LEAST_LINES, Budget, lines_for

RATE = 16 * 2**10
BURST = RATE * BURST_SECONDS
LINES = lines_for(RATE)


def test_a_budget_gives_its_burst_and_then_its_rate() -> None:
    budget = Budget(100.0, RATE)
    assert budget.take(b"x" * (BURST + 1), 100.0) == BURST
    assert budget.take(b"x" * 10, 100.0) == 0
    assert budget.take(b"x" * RATE, 100.5) == RATE // 2
    assert budget.take(b"x" * 10 * BURST, 1000.0) == BURST


def test_a_budget_counts_lines_as_well_as_bytes() -> None:
    budget = Budget(100.0, RATE)
    assert budget.take(b"\n" * BURST, 100.0) == LINES * BURST_SECONDS
    assert budget.take(b"\n" * BURST, 100.0) == 0
    assert budget.take(b"ab\n" * BURST, 101.0) == 3 * LINES
    assert budget.take(b"text", 101.0) == 4  # bytes are left


def test_a_low_rate_still_has_some_lines() -> None:
    assert (lines_for(1024), lines_for(2**18)) == (LEAST_LINES, 2048)


@given(st.lists(st.tuples(st.binary(max_size=4000), st.floats(0, 1)), max_size=20))
def test_kept_bytes_and_lines_never_exceed_burst_and_rate(chunks: list[tuple[bytes, float]]) -> None:
    rate, now = 1024, 0.0
    budget = Budget(now, rate)
    size = lines = 0
    for data, pause in chunks:
        now += pause
        kept = budget.take(data, now)
        size += kept
        lines += data.count(b"\n", 0, kept)
        assert size <= rate * (BURST_SECONDS + now) + 1
        assert lines <= lines_for(rate) * (BURST_SECONDS + now) + 1
