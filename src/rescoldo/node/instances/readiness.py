"""Readiness of programs: a program is ready as soon as a connection to it succeeds.

A program reports nothing itself, so the node probes it by connecting: about 50 µs a probe. After the first probes
the pauses grow, so that many slow starters at once cost little.
"""

from __future__ import annotations

import asyncio
import itertools
import os

from rescoldo.isolation.syscalls import interval_timer
from rescoldo.node.instances.supervised import Supervised
from rescoldo.node.sockets.endpoint import Probe

FIRST_PAUSE = 0.00025  # seconds between the first probes
FIRST_TRIES = 80  # probes with that pause: 20 ms, in which most programs get ready
LONGEST_PAUSE = 0.01  # seconds
_GROWTH = 1.2


async def until_accepting(instance: Supervised) -> bool:
    """Return True once the instance's program takes requests, False when its process ends first."""
    assert instance.process is not None
    ended = instance.process.ended
    with instance.endpoint.probing() as accepting:
        if await _try_often(accepting, ended):
            return True
        pause = 4 * FIRST_PAUSE
        while not ended.is_set():
            if accepting():
                return True
            await asyncio.sleep(pause)
            pause = min(pause * _GROWTH, LONGEST_PAUSE)
    return False


async def _try_often(accepting: Probe, ended: asyncio.Event) -> bool:
    """Make the first probes on a kernel timer: the event loop's own timers round to whole milliseconds."""
    loop = asyncio.get_running_loop()
    decided: asyncio.Future[bool] = loop.create_future()
    timer = interval_timer(FIRST_PAUSE)
    tries = itertools.count(1)

    def on_tick() -> None:
        os.read(timer, 8)
        if decided.done():
            return
        if accepting():
            decided.set_result(True)
        elif ended.is_set() or next(tries) >= FIRST_TRIES:
            decided.set_result(False)

    loop.add_reader(timer, on_tick)
    try:
        return await decided
    finally:
        loop.remove_reader(timer)
        os.close(timer)
