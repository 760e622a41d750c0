"""The edge's access log: one line a call, over a Unix stream, counted a chunk at a time.

A line has the fields of `log-format` in haproxy.cfg.tmpl: function, status, "cold…" or "-", Unix
seconds of its start, then HAProxy's %Ta %TR %Tw (milliseconds: active in all, receiving the head and
being held for a wake, waiting in the queue), %U and %B (bytes read from and sent to the client).

The third field of a cold call that its function answered is "cold:FIRST:HELD:SLOT:FORK:LOAD:LISTEN", in microseconds.
FIRST: from the request's head to the response's first byte. HELD: the part of FIRST that the edge held the request.
SLOT to LISTEN: the phases of the start, as the controller reports them, within HELD.

The third field of a call that the edge answered in place of the instance ends with ":failed:AT:INSTANCE:ID": the time
(Unix microseconds), the instance of the server, and the call's id, percent-encoded.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple
from urllib.parse import unquote

from rescoldo.model.calls import BUCKETS_MS, CallKey, CallSums, FailedCall
from rescoldo.model.coldstart import ColdCall, StartTimes
from rescoldo.model.names import FunctionId, InstanceId, RouteKey
from rescoldo.model.text import one_line

MAX_LINE = 4096  # bytes; HAProxy cuts at 1,024
CHUNK = 2**18  # bytes read at once
PAUSE = 0.05  # seconds between reads
CLOCK_STEP = 5000  # microseconds that two clocks of the edge may differ in one call; beyond that, one of them was set

FAILED = b":failed:"


class Tally(NamedTuple):
    """The calls, cold calls and failed calls of some lines."""

    calls: dict[CallKey, CallSums]
    colds: list[ColdCall]
    failed: list[FailedCall]


def tally(lines: Iterable[bytes]) -> Tally:
    """Count the calls in `lines`; skip invalid lines. Return, too, the phases of each cold call, and each failed call.

    This is all the Python that a warm call costs. So it is one loop over plain numbers, and equal lines are parsed
    once: calls of one function in one second differ little.
    """
    rows: dict[tuple[bytes, bytes, bytes, int], list[int]] = {}
    third = _ThirdFields()
    empty = [0] * (5 + len(BUCKETS_MS) + 1)
    for line, count in Counter(lines).items():
        try:
            function, status, cold, started, *numbers = line.split()
            active, head, waited, received, sent = map(int, numbers)
            minute = (1000 * int(started) + active) // 60_000
        except ValueError:
            continue
        if cold != b"-":
            cold = third.take(function, status, cold, active, count)
            if cold == b"cold" and head > 0:  # HAProxy counts a hold as part of the head's arrival
                waited, head = waited + head if waited >= 0 else waited, 0
        if active < 0 or waited < 0:  # a phase was never reached: all the time counts as waiting
            active = max(active, 0)
            waited = max(active - max(head, 0), 0)
        run = active - waited - head if head > 0 else active - waited
        row = rows.get((function, status, cold, minute))
        if row is None:
            row = rows[function, status, cold, minute] = empty.copy()
        row[0] += count
        row[1] += count * waited
        row[2] += count * run
        row[3] += count * received
        row[4] += count * sent
        row[5 + bisect_left(BUCKETS_MS, waited + run)] += count
    calls = {key: sums for row in rows.items() if (named := _named(*row)) is not None for key, sums in [named]}
    return Tally(calls, third.colds, third.failed)


class _ThirdFields:
    """Collects the cold calls, with their phases, and the failed calls from the third fields of lines."""

    def __init__(self) -> None:
        self.colds: list[ColdCall] = []
        self.failed: list[FailedCall] = []

    def take(self, function: bytes, status: bytes, field: bytes, active: int, count: int) -> bytes:
        """Take the third field of `count` equal lines; return "cold" or "-", which `tally` counts separately."""
        if FAILED in field:
            if (failed := _failed_call(function, status, field)) is not None:
                self.failed.append(failed)
        elif (cold := _cold_call(function, field, active)) is not None:
            self.colds.extend([cold] * count)
        return b"-" if field[:1] == b"-" else b"cold"


def _named(key: tuple[bytes, bytes, bytes, int], row: list[int]) -> tuple[CallKey, CallSums] | None:
    function, status, cold, minute = key
    if b"." not in function or not status.lstrip(b"-").isdigit() or min(row) < 0:
        return None
    name = FunctionId(RouteKey(function.decode("ascii", "replace")))
    calls, queue_ms, run_ms, bytes_in, bytes_out, *buckets = row
    sums = CallSums(calls, queue_ms, run_ms, bytes_in, bytes_out, buckets)
    return CallKey(name, minute, max(int(status), 0), cold == b"cold"), sums


def _cold_call(function: bytes, field: bytes, active: int) -> ColdCall | None:
    """The phases of a cold call that took `active` milliseconds in all.

    None when its function did not answer, or when the clock was set meanwhile: `first` is a difference of two clock
    times, the others are durations.
    """
    try:
        first, held, slot, fork, load, listen = map(int, field.split(b":")[1:])
    except ValueError:
        return None
    if not 0 <= held <= first <= 1000 * active + CLOCK_STEP or min(slot, fork, load, listen) < 0:
        return None
    start = StartTimes(slot, fork, load, listen).within(held)
    return ColdCall(FunctionId(RouteKey(function.decode("ascii", "replace"))), held - sum(start), *start, first - held)


def _failed_call(function: bytes, status: bytes, field: bytes) -> FailedCall | None:
    """A call that the edge answered in place of an instance; None for a call that had reached no instance."""
    at, _, rest = field.partition(FAILED)[2].partition(b":")
    instance, _, call_id = rest.partition(b":")
    if not (at.isdigit() and len(at) < 20 and status.isdigit() and instance):
        return None
    return FailedCall(
        FunctionId(RouteKey(function.decode("ascii", "replace"))),
        InstanceId(instance.decode("ascii", "replace")),
        one_line(unquote(call_id.decode("ascii", "replace"))),
        int(at) / 1e6,
        int(status),
    )


async def read_calls(connection: socket.socket, record: Callable[[Tally], None]) -> None:
    """Pass the tallies of one connection of the edge to `record`, until it ends.

    Reads large chunks at long intervals: unread lines wait in the socket and then in the edge's ring, and each
    wake-up of this process costs as much as twenty lines.
    """
    loop = asyncio.get_running_loop()
    rest = b""
    with connection, contextlib.suppress(ConnectionError):
        while chunk := await loop.sock_recv(connection, CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > MAX_LINE:
                rest = b""
            record(tally(lines))
            await asyncio.sleep(PAUSE)
