"""Describes the targets of faults: their processes, the calls that a fault may harm, and their recovery."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matrix.client import Call
from matrix.world import VICTIM, World
from support.live import alive

STOPPED = "T"
FAULTS = {"SIGKILL": signal.SIGKILL, "SIGSTOP": signal.SIGSTOP}
LOOK_SECONDS = 0.005


@dataclass(frozen=True)
class Target:
    """A part to strike. `inside(call, strike, down)` returns whether a call was in flight in the target when it was
    struck: `strike` is when the signal was sent, `down` when the target had stopped working."""

    name: str
    pids: Callable[[World], list[int]]
    inside: Callable[[Call, float, float], bool]
    others: Callable[[Call], bool] = lambda call: True  # warm traffic that the fault should not affect


def part(name: str) -> Callable[[World], list[int]]:
    return lambda world: [world.live.pid(name)]


def never(call: Call, strike: float, down: float) -> bool:
    """Node, zygote, supervisor, guardian: no call passes through them, so a fault may fail none."""
    return False


def on_its_connections(call: Call, strike: float, down: float) -> bool:
    """The edge: calls over connections that it had open. Later connections wait in the backlog."""
    return call.connected <= down and call.end >= strike


def to_system(call: Call, strike: float, down: float) -> bool:
    """The controller: calls to /system in flight. Held calls wait in the edge."""
    return call.kind == "system" and call.begin <= down and call.end >= strike


def not_repeatable(call: Call, strike: float, down: float) -> bool:
    """An instance: calls in flight that nothing may repeat."""
    return call.method == "POST" and call.begin <= down and call.end >= strike


def one_instance(victim: str) -> Target:
    """Return a target for one of a function's instances."""
    return Target(
        "one instance",
        lambda world: world.instances(victim)[:1],
        lambda call, strike, down: call.function == victim and not_repeatable(call, strike, down),
        lambda call: call.function != victim,
    )


TARGETS = (
    Target("edge", part("edge"), on_its_connections),
    Target("controller", part("controller"), to_system),
    Target("node", part("node"), never),
    Target("zygote", part("zygote"), never),
    Target("supervisor", part("supervisor"), never),
    Target("guardian", part("guardian"), never),
    one_instance(VICTIM),
    Target("all instances", lambda world: world.instances(), not_repeatable),
)
CHANGING_TARGETS = tuple(target for target in TARGETS if target.name in (
    "edge", "controller", "node", "zygote", "supervisor"
))


SHARING_TARGETS = tuple(target for target in TARGETS if target.name in (
    "edge", "controller", "node", "all instances"
))


@dataclass(frozen=True)
class Struck:
    """The processes that a fault struck; times are seconds of the monotonic clock."""

    pids: list[int]
    strike: float
    down: float


def strike(world: World, target: Target, number: signal.Signals) -> Struck:
    """Send the signal; return when the processes have stopped working."""
    pids = target.pids(world)
    assert pids, f"there is no {target.name}"
    begin = time.monotonic()
    descriptors = []  # pidfds: a pid could belong to another process by the time of the signal
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # an instance that is falling asleep
            descriptors.append((pid, os.pidfd_open(pid)))
    for _, pidfd in descriptors:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)
    for pid, pidfd in descriptors:
        while not (select.select([pidfd], [], [], 0)[0] or (number == signal.SIGSTOP and is_stopped(pid))):
            time.sleep(0.0005)
        os.close(pidfd)
    return Struck([pid for pid, _ in descriptors], begin, time.monotonic())


def is_stopped(pid: int) -> bool:
    """Return whether every thread of a process is stopped."""
    try:
        stats = [(thread / "stat").read_text() for thread in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return False
    return all(stat.rpartition(")")[2].split()[0] == STOPPED for stat in stats)


async def is_replaced(world: World, target: Target, struck: Struck) -> None:
    """Wait until all struck processes are gone and others are in their place."""
    while True:
        gone = not any(alive(pid) for pid in struck.pids)
        with contextlib.suppress(OSError, ValueError, KeyError, StopIteration):
            there = target.pids(world)
            if gone and there and all(alive(pid) for pid in there):
                return
        await asyncio.sleep(LOOK_SECONDS)
