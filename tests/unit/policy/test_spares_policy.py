from __future__ import annotations

import pytest

from rescoldo.policy.spares import WHEN_FEW, WHEN_MANY, refill_pause


@pytest.mark.parametrize(("ready", "pause"), [(0, WHEN_FEW), (3, WHEN_FEW), (4, WHEN_MANY), (60, WHEN_MANY)])
def test_a_few_spares_are_made_between_two_starts_the_others_when_it_is_quiet(ready: int, pause: float) -> None:
    assert refill_pause(ready) == pause
