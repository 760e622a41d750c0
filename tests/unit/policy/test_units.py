"""Times in a form for people."""

import pytest

from rescoldo.model.units import about, exactly


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-0.1, "0 ms"), (0.0, "0 ms"), (0.0042, "4 ms"), (0.2, "0.2 s"), (9.94, "9.9 s"), (12.0, "12 s"),
        (119.9, "119 s"), (120, "2 min"), (774.1, "12 min"), (7199, "119 min"), (7200, "2 h"), (172_799, "47 h"),
        (172_800, "2 days"), (331 * 86400.0, "331 days"),
    ],
)  # fmt: skip
def test_a_measured_time_is_rounded_down_to_the_shown_unit(seconds, text):
    assert about(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.25 s"), (30.0, "30 s"), (90, "90 s"), (300, "5 min"), (330, "330 s"), (3600, "60 min"), (7200, "2 h")],
)
def test_a_configured_time_is_not_rounded(seconds, text):
    assert exactly(seconds) == text
