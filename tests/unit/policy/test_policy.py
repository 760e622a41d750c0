from __future__ import annotations

import pytest

from rescoldo.policy.backoff import retry_delay
from rescoldo.policy.idle import Activity, LoadSample, due, observe


def test_the_back_off_doubles_up_to_its_maximum() -> None:
    assert [retry_delay(count) for count in range(1, 9)] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert retry_delay(10_000) == 10.0


def test_a_function_is_due_to_sleep_a_window_after_its_last_activity() -> None:
    assert due(Activity(100.0, 7), 10.0) == 110.0


@pytest.mark.parametrize(
    "sample", [LoadSample(True, 7), LoadSample(True, 8), LoadSample(False, 8), LoadSample(False, 0)]
)
def test_a_slot_that_is_busy_or_has_begun_a_call_is_active_now(sample: LoadSample) -> None:
    # a smaller total comes from a restarted edge and says nothing about earlier calls
    assert observe(Activity(100.0, 7), sample, 105.0) == Activity(105.0, sample.total)


def test_a_quiet_slot_keeps_its_last_activity() -> None:
    assert observe(Activity(100.0, 7), LoadSample(False, 7), 105.0) == Activity(100.0, 7)
