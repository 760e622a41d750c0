"""When another spare is made. Making one takes about 10 ms of cpu, from those who wait if it is done too soon."""

from __future__ import annotations

FEW = 4
WHEN_FEW = 0.003  # seconds without a start: between two of a burst there is hardly more
WHEN_MANY = 0.05  # a single wake is over, with its first call


def refill_pause(ready: int) -> float:
    """Seconds without a start after which another spare is made, with `ready` there."""
    return WHEN_FEW if ready < FEW else WHEN_MANY
