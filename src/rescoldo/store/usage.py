"""Sums of counted calls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from rescoldo.model.names import FunctionId
from rescoldo.store.protocol import MinuteUsage

UsageKey = tuple[FunctionId, int, int, bool]


def key_of(row: MinuteUsage) -> UsageKey:
    """Return what tells a sum from others: function, minute, status, cold."""
    return row.function, row.minute, row.status, row.cold


def sum_of(one: MinuteUsage, other: MinuteUsage) -> MinuteUsage:
    """Add two rows of the same key."""
    return replace(
        one,
        calls=one.calls + other.calls,
        queue_ms=one.queue_ms + other.queue_ms,
        run_ms=one.run_ms + other.run_ms,
        bytes_in=one.bytes_in + other.bytes_in,
        bytes_out=one.bytes_out + other.bytes_out,
    )


def summed(rows: Iterable[MinuteUsage]) -> tuple[MinuteUsage, ...]:
    """Return one row for each key, in the order in which the keys first come."""
    sums: dict[UsageKey, MinuteUsage] = {}
    for row in rows:
        key = key_of(row)
        sums[key] = sum_of(sums[key], row) if key in sums else row
    return tuple(sums.values())
