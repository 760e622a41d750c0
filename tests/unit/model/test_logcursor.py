from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rescoldo.model.logcursor import MOST_REMARKS, LogCursor

LINES = st.tuples(st.integers(0, 3), st.sampled_from(["", "3 more", "4 more"]))  # moment, and the text of a remark


LOGS = st.lists(LINES, max_size=30).map(lambda lines: sorted(lines, key=lambda line: line[0]))


@given(LOGS, st.lists(st.integers(0, 8), max_size=10))
def test_every_line_is_read_once_however_often_reading_is_interrupted(
    lines: list[tuple[int, str]], breaks: list[int]
) -> None:
    cursor = LogCursor(-1)
    had: list[tuple[int, str]] = []
    for stream, length in enumerate([*breaks, len(lines)]):
        cursor.interrupted()
        for moment, remark in [line for line in lines if line[0] >= cursor.since][:length]:
            if cursor.is_new_remark(moment, remark) if remark else cursor.is_new(moment):
                had.append((moment, remark))
        assert cursor.is_new_remark(99, f"stream {stream} ends")
    assert had == lines


def test_a_remark_that_only_one_stream_has_hides_no_line_of_its_moment() -> None:
    cursor = LogCursor(1)
    assert (cursor.is_new_remark(1, "5 lines left out"), cursor.is_new(1)) == (True, True)
    cursor.interrupted()
    assert (cursor.is_new(1), cursor.is_new(1)) == (False, True)


def test_of_very_many_remarks_the_latest_are_known() -> None:
    cursor = LogCursor(1)
    for moment in range(MOST_REMARKS + 1):
        assert cursor.is_new_remark(moment, "the stream ends")
    cursor.interrupted()
    assert [cursor.is_new_remark(moment, "the stream ends") for moment in (0, 1, 2, MOST_REMARKS)] == [
        True, False, False, False
    ]
