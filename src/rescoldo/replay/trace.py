"""A trace: for each function its calls in each minute, its durations and its memory.

Three CSV files, joined by HashFunction, in the format of the vHive authors' sample of the Azure Functions 2019 trace:
invocations.csv (calls in each minute), durations.csv (percentiles of milliseconds), memory.csv (MB).
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from rescoldo.model.errors import InvalidInput

KEY = "HashFunction"
PERCENTILES = (0, 1, 25, 50, 75, 99, 100)
DURATIONS = tuple(f"percentile_Average_{percentile}" for percentile in PERCENTILES)
MEMORY = "AverageAllocatedMb"

MAX_FILE = 1024 * 2**20  # bytes; a whole day of Azure's 2019 trace has about 150 MB
MAX_FUNCTIONS = 100_000
MAX_CALLS = 1_000_000  # in one minute
MAX_MILLISECONDS = 7 * 86_400_000.0
MAX_MEMORY = 1_000_000.0  # MB
SAMPLE = Path(__file__).parent / "sample"  # its README.md names the source
SECONDS = 60.0  # in one column of invocations.csv


@dataclass(frozen=True, slots=True)
class TracedFunction:
    """One function of a trace."""

    name: str  # f000, f001, …, by its place in the file
    key: str  # its HashFunction
    memory: float  # MB while it is awake
    durations: tuple[float, ...]  # seconds of a call at PERCENTILES
    calls: tuple[int, ...]  # in each minute


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace, or a part of one. Its functions are independent of each other."""

    source: str
    first: int  # number of the first minute, as in the file's head
    functions: tuple[TracedFunction, ...]

    @property
    def minutes(self) -> int:
        """The number of minutes."""
        return len(self.functions[0].calls)

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return self.minutes * SECONDS

    @property
    def calls(self) -> int:
        """The calls of all functions in all minutes."""
        return sum(sum(function.calls) for function in self.functions)

    @property
    def memory(self) -> float:
        """MB of always-on: one instance of each function."""
        return sum(function.memory for function in self.functions)


def read_trace(folder: Path) -> Trace:
    """Read the three files in `folder`. Raises InvalidInput naming file and line."""
    invocations, durations, memory = (folder / f"{name}.csv" for name in ("invocations", "durations", "memory"))
    minutes = _minutes(invocations)
    running = {row[KEY]: _durations(row) for row in _rows(durations, (KEY, *DURATIONS))}
    sizes = {row[KEY]: _number(row, MEMORY, MAX_MEMORY) for row in _rows(memory, (KEY, MEMORY))}
    functions: list[TracedFunction] = []
    for row in _rows(invocations, (KEY, *minutes)):
        key = row[KEY]
        for table, file in ((running, durations), (sizes, memory)):
            if key not in table:
                raise InvalidInput(f"{row.place}: function {key[:64]} has no row in {file}; add one or drop this line")
        calls = tuple(_count(row, minute) for minute in minutes)
        functions.append(TracedFunction(f"f{len(functions):03d}", key, sizes[key], running[key], calls))
    if not functions:
        raise InvalidInput(f"{invocations}: it has no functions, only a header")
    if not sum(function.memory for function in functions):
        raise InvalidInput(f"{memory}: every {MEMORY} is 0, so there is nothing to compare")
    return Trace(str(folder), int(minutes[0]), tuple(functions))


def part(trace: Trace, *, first: int | None = None, minutes: int | None = None, functions: int | None = None,
         seed: int = 0) -> Trace:  # fmt: skip
    """Cut `minutes` minutes out of a trace from minute `first` on, with `functions` of its functions chosen by `seed`.

    Raises InvalidInput naming the flag and the allowed range.
    """
    start = trace.first if first is None else first
    last = trace.first + trace.minutes - 1
    if not trace.first <= start <= last:
        raise InvalidInput(f"--from {start}: use {trace.first} to {last}, the minutes of the trace")
    length = last - start + 1 if minutes is None else minutes
    if not 1 <= length <= last - start + 1:
        raise InvalidInput(f"--minutes {length}: use 1 to {last - start + 1}, the minutes of the trace from {start} on")
    chosen: Sequence[TracedFunction] = trace.functions
    if functions is not None:
        if not 1 <= functions <= len(chosen):
            raise InvalidInput(f"--functions {functions}: use 1 to {len(chosen)}, the functions of the trace")
        kept = sorted(random.Random(seed).sample(range(len(chosen)), functions))
        chosen = [chosen[place] for place in kept]
    begin = start - trace.first
    cut = tuple(replace(one, calls=one.calls[begin : begin + length]) for one in chosen)
    return Trace(trace.source, start, cut)


class _Row(dict[str, str]):
    """The cells of a row by column, with their file and line."""

    place = ""  # FILE:LINE


def _minutes(file: Path) -> tuple[str, ...]:
    """The columns whose names are numbers, which must be consecutive."""
    with _opened(file) as lines:
        head = next(lines, [])
    names = tuple(name for name in head if name.isascii() and name.isdigit())
    if not names:
        raise InvalidInput(f"{file}:1: no column has the number of a minute as its name, such as 480")
    numbers = [int(name) for name in names[:MAX_CALLS]]
    for number, after in pairwise(numbers):
        if after != number + 1:
            raise InvalidInput(f"{file}:1: after column {number} comes {after}; minutes must be consecutive")
    return names


def _rows(file: Path, wanted: tuple[str, ...]) -> Iterator[_Row]:
    """Yield the rows of a file with the columns `wanted`. Raises InvalidInput, also for a repeated function."""
    seen: dict[str, int] = {}
    with _opened(file) as lines:
        head = next(lines, [])
        place_of = {name: place for place, name in enumerate(head)}
        if missing := [name for name in wanted if name not in place_of]:
            raise InvalidInput(f"{file}:1: column {missing[0]} is missing")
        places = [place_of[name] for name in wanted]
        for cells in lines:
            if not cells:
                continue
            where = f"{file}:{lines.line}"
            if len(cells) != len(head):
                raise InvalidInput(f"{where}: {len(cells)} cells, but the header has {len(head)}")
            row = _Row(zip(wanted, (cells[place] for place in places), strict=True))
            row.place = where
            key = row[KEY]
            if not key:
                raise InvalidInput(f"{where}: {KEY} is empty")
            if key in seen:
                raise InvalidInput(f"{where}: function {key[:64]} is already in line {seen[key]}")
            if len(seen) >= MAX_FUNCTIONS:
                raise InvalidInput(f"{where}: more than {MAX_FUNCTIONS} functions")
            seen[key] = lines.line
            yield row


class _opened:
    """Reads the lines of a CSV file; its errors name the line."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> _opened:
        try:
            if self._file.stat().st_size > MAX_FILE:
                raise InvalidInput(f"{self._file}: larger than {MAX_FILE // 2**20} MiB")
            self._text = self._file.open(encoding="utf-8-sig", newline="")  # spreadsheets write a byte order mark
        except OSError as error:
            raise InvalidInput(f"{self._file}: cannot be read: {error.strerror}") from error
        self._reader = csv.reader(self._text)
        return self

    def __exit__(self, *_: object) -> None:
        self._text.close()

    @property
    def line(self) -> int:
        return self._reader.line_num

    def __iter__(self) -> _opened:
        return self

    def __next__(self) -> list[str]:
        try:
            return next(self._reader)
        except (csv.Error, UnicodeDecodeError) as error:
            raise InvalidInput(f"{self._file}:{self.line + 1}: not CSV in UTF-8: {error}") from error
        except OSError as error:
            raise InvalidInput(f"{self._file}: cannot be read: {error.strerror}") from error


def _number(row: _Row, column: str, most: float) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:  # also nan
        raise InvalidInput(f"{row.place}: {column} is {row[column][:40]!r}; use a number from 0 to {most:g}")
    return value


def _count(row: Mapping[str, str], minute: str) -> int:
    text = row[minute]
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else -1
    if not 0 <= value <= MAX_CALLS:
        place = row.place if isinstance(row, _Row) else ""
        raise InvalidInput(f"{place}: minute {minute} is {text[:40]!r}; use a whole number from 0 to {MAX_CALLS}")
    return value


def _durations(row: _Row) -> tuple[float, ...]:
    values = [_number(row, column, MAX_MILLISECONDS) / 1000 for column in DURATIONS]
    for column, value, before in zip(DURATIONS[1:], values[1:], values, strict=False):
        if value < before:
            raise InvalidInput(f"{row.place}: {column} is below the percentile before it")
    return tuple(values)
