"""Reports a replay's figures as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rescoldo.replay.outcome import MB_PER_GB, Outcome
from rescoldo.replay.trace import Trace

HEAD = ("Idle window", "Warm %", "GB-s", "Cold", "Cold %", "Added ms", "p50", "p99", "max", "Failed")
LATE = 0.05  # seconds; if the latest 1 % of calls were sent later than this, the load was not the trace's


def summary(trace: Trace) -> str:
    """One line about the played part of a trace."""
    return (
        f"{len(trace.functions)} functions, minutes {trace.first} to {trace.first + trace.minutes - 1}, "
        f"{trace.calls:,} calls; always-on holds {trace.memory / MB_PER_GB:.2f} GB"
    )


def rows(outcomes: Sequence[Outcome]) -> list[tuple[Any, ...]]:
    """Rows below HEAD: memory in use, one row for each setting, always-on."""
    first = outcomes[0]
    every = first.trace.memory * first.trace.seconds / MB_PER_GB
    return [
        ("in use", round(first.used_share, 1), round(every * first.used_share / 100), *("",) * 7),
        *(_row(outcome) for outcome in outcomes),
        ("always on", 100.0, round(every), *("",) * 7),
    ]


def _row(outcome: Outcome) -> tuple[Any, ...]:
    p50, p99, most = outcome.delays.at(50, 99, 100)
    return (
        str(outcome.setting),
        round(outcome.warm_share, 1),
        round(outcome.gb_seconds),
        outcome.cold,
        round(outcome.cold_share, 2),
        *(round(seconds * 1000, 2) for seconds in (outcome.delays.mean, p50, p99, most)),
        outcome.failed,
    )


def remarks(outcomes: Sequence[Outcome]) -> list[str]:
    """Lines about the causes of failed calls, and about a live replay that sent calls late."""
    lines = [
        f"{outcome.setting}: {count} failed: {why}"
        for outcome in outcomes
        for why, count in outcome.failures.most_common(5)
    ]
    lateness = ((outcome.setting, outcome.late.at(99)[0]) for outcome in outcomes if outcome.late is not None)
    lines.extend(
        f"{setting}: 1 % of the calls were sent more than {late * 1000:.0f} ms late: this machine could not keep up, "
        "so the figures are worse than the platform's; use less --speed or fewer --functions"
        for setting, late in lateness
        if late > LATE
    )
    return lines


def to_json(outcomes: Sequence[Outcome], speed: float | None) -> dict[str, Any]:
    """All figures; `speed` is that of a live replay, None for a simulation."""
    trace = outcomes[0].trace
    return {
        "trace": trace.source,
        "functions": len(trace.functions),
        "first_minute": trace.first,
        "minutes": trace.minutes,
        "calls": trace.calls,
        "always_on_gb": round(trace.memory / MB_PER_GB, 4),
        "live": speed is not None,
        "speed": speed,
        "settings": [outcome.to_json() for outcome in outcomes],
    }
