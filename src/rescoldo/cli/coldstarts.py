"""Prints the phases of cold starts for `describe` and `status`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rescoldo.cli.output import say, say_columns

_SHOWN = ("median", "p99", "max", "last")


def say_cold_starts(found: Mapping[str, Any]) -> None:
    """Print a summary line, and a table if there were cold starts; nothing if the gateway does not report them."""
    if not found:
        return
    failed = {reason: count for reason, count in sorted(found["failed"].items()) if count}
    why = ", ".join(f"{count} {reason}" for reason, count in failed.items())
    text = f"{found['calls']} answered" + (f"; failed wakes: {sum(failed.values())} ({why})" if failed else "")
    say(f"{'Cold starts:':<14}{text}")
    phases = found["phases"]
    if phases:
        say()
        say_columns(("PHASE", *_cells(name.upper() for name in _SHOWN)), [_row(name, phases[name]) for name in phases])


def _row(name: str, times: Mapping[str, float]) -> tuple[str, ...]:
    return name.replace("_", " "), *_cells(f"{times[shown] * 1000:.2f} ms" for shown in _SHOWN)


def _cells(texts: Iterable[str]) -> Iterable[str]:
    return (text.rjust(len("1000.00 ms")) for text in texts)
