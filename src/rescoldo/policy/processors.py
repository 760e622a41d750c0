"""Decides, where no cgroup limits instances, which get the lowest priority because they crowd the processors."""

from __future__ import annotations

WORTH = 0.25  # processors that an instance has to use for it: less harms nobody


def crowds(used: float, runnable: int, cpus: float) -> bool:
    """Whether an instance that used so many processors lately (1.0: one of them all the time) has more threads that run
    or want to than there are `cpus`.

    The kernel shares processors among threads, so an instance with 32 of them takes 32 shares. What it used would not
    tell: beside other containers it gets half a processor, or two. On two processors, 32 threads that spin are a crowd,
    and so are three; a function that is busy in one or two threads is none.
    """
    return used >= WORTH and runnable > max(cpus, 1)
