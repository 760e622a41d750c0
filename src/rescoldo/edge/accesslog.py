"""The edge's access log: one line a call, over a Unix stream, into CallRecords.

A line has the fields of `log-format` in haproxy.cfg.tmpl: function, status, "cold" or "-", Unix
milliseconds of its start, then HAProxy's %Ta %TR %Tw (milliseconds: active in all, receiving the head,
waiting for a hold and in the queue), %U and %B (bytes read from and sent to the client).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rescoldo.model.calls import CallRecord
from rescoldo.model.names import FunctionId

MAX_LINE = 4096  # bytes; HAProxy cuts at 1,024


def parse(line: bytes) -> CallRecord | None:
    """The call a line tells of; None when it tells of none."""
    fields = line.split()
    if len(fields) != 9 or b"." not in fields[0]:
        return None
    try:
        status, started, active, head, waited, bytes_in, bytes_out = (
            int(fields[1]), int(fields[3]), *(int(field) for field in fields[4:])
        )
    except ValueError:
        return None
    # -1 stands for a phase that was never reached: all the time there was went into waiting
    active, head = max(active, 0), max(head, 0)
    queue_ms = waited if waited >= 0 else max(active - head, 0)
    return CallRecord(
        function=FunctionId(fields[0].decode("ascii", "replace")),
        status=max(status, 0),
        cold=fields[2] == b"cold",
        ended_at=(started + active) / 1000,
        queue_ms=queue_ms,
        run_ms=max(active - head - queue_ms, 0),
        bytes_in=max(bytes_in, 0),
        bytes_out=max(bytes_out, 0),
    )


async def read_calls(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: Callable[[CallRecord], None]
) -> None:
    """Hand each call that one connection of the edge tells of to `record`, until it ends."""
    rest = b""
    try:
        while chunk := await reader.read(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > MAX_LINE:
                rest = b""
            for line in lines:
                if (call := parse(line)) is not None:
                    record(call)
    except ConnectionError:
        pass
    finally:
        writer.close()
