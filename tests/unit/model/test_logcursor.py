from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rescoldo.model.logcursor import LogCursor


@given(st.lists(st.integers(0, 3), max_size=30).map(sorted), st.lists(st.integers(0, 8), max_size=10))
def test_every_line_is_read_once_however_often_reading_is_interrupted(moments: list[int], breaks: list[int]) -> None:
    log = list(enumerate(moments))
    cursor = LogCursor(-1)
    had: list[int] = []
    for length in [*breaks, len(log)]:
        cursor.interrupted()
        for number, moment in [one for one in log if one[1] >= cursor.since][:length]:
            if cursor.is_new(moment):
                had.append(number)
    assert had == list(range(len(log)))
