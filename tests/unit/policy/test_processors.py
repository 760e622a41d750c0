"""Which instances get the lowest priority because they crowd the processors."""

from __future__ import annotations

import pytest

from rescoldo.policy.processors import crowds


@pytest.mark.parametrize(
    ("used", "runnable", "cpus", "expected"),
    [
        (1.9, 32, 2, True),
        (0.5, 32, 2, True),  # beside other containers
        (0.5, 3, 2, True),
        (1.9, 2, 2, False),
        (1.0, 1, 0.5, False),
        (0.5, 2, 0.5, True),
        (0.1, 32, 2, False),  # threads that mostly sleep
    ],
)
def test_more_threads_than_processors_that_use_them_are_a_crowd(
    used: float, runnable: int, cpus: float, expected: bool
) -> None:
    assert crowds(used, runnable, cpus) is expected
