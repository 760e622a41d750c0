"""Writes to the terminal: results to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import click

from rescoldo.model.text import json_text, one_line, uncoloured, visible, whole

MOST_OF_A_LINE = 300  # characters of a reason in a table; the full reason is printed elsewhere
BAR_FROM = 2 * 2**20  # bytes: smaller uploads end before a bar is drawn
_drawing = threading.Lock()  # a terminal has room for one bar: the first of parallel uploads draws it


def say(text: str = "") -> None:
    """Print a line of the result, with control characters escaped."""
    click.echo(visible(text))


def note(text: str) -> None:
    """Print a line about progress on stderr, with control characters escaped."""
    click.echo(visible(text), err=True)


def on_terminal() -> bool:
    """Return whether stdout is a terminal."""
    return sys.stdout.isatty()


def say_printed(text: str) -> None:
    """Print a function's output: unchanged into a file or a pipe. A terminal gets it without colours and with other
    control characters escaped, since they could overwrite other lines or type into the terminal."""
    if on_terminal():
        click.echo(uncoloured(text))
    else:
        click.echo(whole(text), color=True)


def complain(message: str) -> None:
    """Print an error message on stderr."""
    red = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    click.echo(f"{click.style('Error:', fg='red', bold=True) if red else 'Error:'} {visible(message)}", err=True)


def brief(text: str, most: int = MOST_OF_A_LINE) -> str:
    """Shorten `text` for a table to its first and last line; the last line of a traceback names the exception."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = " … ".join(dict.fromkeys((lines[0], lines[-1]))) if lines else ""
    return told if len(told) <= most else f"{told[: most - 1]}…"


def say_json(data: object) -> None:
    click.echo(json_text(data))


def say_columns(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print aligned columns, numbers to the right."""
    table = [[one_line(str(cell)) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    right = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(head))]
    for row in table:
        cells = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        say("  ".join(cells).rstrip())


def human_size(size: int) -> str:
    """Format a size in bytes: 1536 → `1.5 KiB`."""
    value, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


class Advance(Protocol):
    def __call__(self, sent: int, /) -> None: ...


@contextmanager
def upload_bar(what: str, size: int) -> Iterator[Advance]:
    """Draw a bar for a large upload on a terminal; the caller passes each number of bytes sent to the yielded
    function."""
    if size < BAR_FROM or not sys.stderr.isatty() or not _drawing.acquire(blocking=False):
        yield lambda sent: None
        return
    try:
        with _bar(what, size) as advance:
            yield advance
    finally:
        _drawing.release()


@contextmanager
def _bar(what: str, size: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn(what), BarColumn(), DownloadColumn(binary_units=True))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=size)
        yield lambda sent: progress.advance(task, sent)
