"""Reading a trace's three files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_traces import write_trace

from rescoldo.model.errors import InvalidInput
from rescoldo.replay.trace import DURATIONS, Trace, part, read_trace

HEAD = f"HashFunction,{','.join(DURATIONS)}\n"


def test_the_three_files_are_joined_by_the_functions_hash(tmp_path: Path) -> None:
    trace = read_trace(write_trace(tmp_path))
    assert (trace.first, trace.minutes, trace.seconds, trace.calls, trace.memory) == (480, 2, 120.0, 4, 180.5)
    one, two = trace.functions
    assert (one.name, one.memory, one.calls) == ("f000", 170.5, (3, 0))
    assert one.durations == pytest.approx((0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007))
    assert (two.name, two.memory, two.calls) == ("f001", 10.0, (0, 1))


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("invocations", "HashFunction,480\naa,1\ncc,1\n", "invocations.csv:3: function cc has no row in "),
        ("invocations", "HashFunction,480\naa,-1\n", "invocations.csv:2: minute 480 is '-1'; use a whole number"),
        ("invocations", "HashFunction,480\naa,1.5\n", "invocations.csv:2: minute 480 is '1.5'"),
        ("invocations", "HashFunction,480\naa,1000001\n", "from 0 to 1000000"),
        ("invocations", "HashFunction,480\naa,1\naa,1\n", "invocations.csv:3: function aa is already in line 2"),
        ("invocations", "HashFunction,480\naa\n", "invocations.csv:2: 1 cells, but the header has 2"),
        ("invocations", "HashFunction,480\n,1\n", "invocations.csv:2: HashFunction is empty"),
        ("invocations", "HashFunction,480\n", "it has no functions"),
        ("invocations", "HashFunction\naa\n", "invocations.csv:1: no column has the number of a minute as its name"),
        ("invocations", "HashFunction,480,482\naa,1,1\n", "after column 480 comes 482"),
        ("invocations", "480\n1\n", "invocations.csv:1: column HashFunction is missing"),
        ("invocations", "", "invocations.csv:1: no column"),
        ("durations", f"{HEAD}aa,1,2,3,4,5,6,x\n", "durations.csv:2: percentile_Average_100 is 'x'; use a number"),
        ("durations", f"{HEAD}aa,1,2,3,4,5,6,nan\n", "percentile_Average_100 is 'nan'"),
        ("durations", f"{HEAD}aa,1,2,3,2,5,6,7\n", "durations.csv:2: percentile_Average_50 is below the percentile"),
        ("durations", "HashFunction\naa\n", "durations.csv:1: column percentile_Average_0 is missing"),
        ("memory", "HashFunction,AverageAllocatedMb\naa,\nbb,1\n", "memory.csv:2: AverageAllocatedMb is ''"),
        ("memory", "HashFunction,AverageAllocatedMb\naa,0\nbb,0\n", "memory.csv: every AverageAllocatedMb is 0"),
        ("memory", "\0", "memory.csv:1: "),
    ],
)
def test_an_invalid_trace_is_refused_with_file_and_line(tmp_path: Path, file: str, text: str, expected: str) -> None:
    write_trace(tmp_path, **{file: text})
    with pytest.raises(InvalidInput) as caught:
        read_trace(tmp_path)
    assert expected in caught.value.message


def test_files_with_a_byte_order_mark_and_crlf_line_ends_are_read(tmp_path: Path) -> None:
    trace = read_trace(write_trace(tmp_path))
    for file in tmp_path.glob("*.csv"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_trace(tmp_path) == trace


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    write_trace(tmp_path)
    (tmp_path / "memory.csv").write_bytes(b"HashFunction,AverageAllocatedMb\n\xff,1\n")
    with pytest.raises(InvalidInput, match=r"memory\.csv:\d: not CSV in UTF-8"):
        read_trace(tmp_path)
    (tmp_path / "memory.csv").unlink()
    with pytest.raises(InvalidInput, match=r"memory\.csv: cannot be read: No such file"):
        read_trace(tmp_path)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=200) | st.lists(st.sampled_from(
    ["HashFunction", "480", "481", "aa", "1", ",", "\n", '"', "-", "9" * 30]), max_size=20).map("".join))  # fmt: skip
def test_any_content_of_a_file_is_parsed_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = write_trace(tmp_path_factory.mktemp("trace"))
    (folder / "invocations.csv").write_text(text, newline="")
    try:
        assert isinstance(read_trace(folder), Trace)
    except InvalidInput as error:
        assert "invocations.csv" in error.message


def test_a_part_has_its_minutes_and_functions_and_keeps_their_names(tmp_path: Path) -> None:
    trace = read_trace(write_trace(tmp_path))
    cut = part(trace, first=481, minutes=1, functions=1, seed=3)
    assert (cut.first, cut.minutes, len(cut.functions)) == (481, 1, 1)
    assert cut.functions[0].name in ("f000", "f001")
    assert part(trace) == trace
    assert part(trace, functions=1, seed=3).functions == part(trace, functions=1, seed=3).functions


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"first": 479}, "--from 479: use 480 to 481, the minutes of the trace"),
        ({"minutes": 3}, "--minutes 3: use 1 to 2, the minutes of the trace from 480 on"),
        ({"first": 481, "minutes": 2}, "--minutes 2: use 1 to 1, the minutes of the trace from 481 on"),
        ({"minutes": 0}, "--minutes 0"),
        ({"functions": 3}, "--functions 3: use 1 to 2, the functions of the trace"),
    ],
)
def test_a_part_outside_the_trace_is_refused(tmp_path: Path, asked: dict[str, int], expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        part(read_trace(write_trace(tmp_path)), **asked)
