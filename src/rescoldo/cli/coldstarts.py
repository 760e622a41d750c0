"""How `describe` and `status` show what cold calls waited for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rescoldo.cli.output import say, say_columns

_SHOWN = ("median", "p99", "max", "last")


def say_cold_starts(found: Mapping[str, Any]) -> None:
    """A line, and a table where there were any; nothing for a gateway that does not tell."""
    if not found:
        return
    failed = {reason: count for reason, count in sorted(found["failed"].items()) if count}
    why = ", ".join(f"{count} {reason}" for reason, count in failed.items())
    text = f"{found['calls']} answered" + (f", {sum(failed.values())} wakes failed ({why})" if failed else "")
    say(f"{'Cold starts:':<14}{text}")
    phases = found["phases"]
    if phases:
        say()
        say_columns(("PHASE", *(name.upper() for name in _SHOWN)), [_row(name, phases[name]) for name in phases])


def _row(name: str, times: Mapping[str, float]) -> tuple[str, ...]:
    return name.replace("_", " "), *(f"{times[shown] * 1000:.2f} ms".rjust(len("10000.00 ms")) for shown in _SHOWN)
