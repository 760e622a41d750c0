"""Measures the cost of clients that leave before their call has begun, for the next caller."""

from __future__ import annotations

import socket
import time

from client import get_ok
from rows import Bar, Measurement, Row, say
from support.live import Live

LEAVERS, SECONDS, STAY = 10, 2.0, 0.1  # abandoned calls; duration of a handler in s; patience of a client in s
COUNT = """
RUN = 0

{}def handle(event, context):
    global RUN
    if event.path == "/run":
        return str(RUN)
    RUN += 1
    {}
"""
KINDS = {
    "sync": "import time\n" + COUNT.format("", f"time.sleep({SECONDS})"),
    "async": "import asyncio\n" + COUNT.format("async ", f"await asyncio.sleep({SECONDS})"),
}

RUN = Bar(f"concurrency 1, {LEAVERS} clients that leave, a patient one, handler of 2 s: handlers run", "", most=2)
WAIT = Bar(f"concurrency 1, {LEAVERS} clients that leave, a patient one, handler of 2 s: it waits", "s", most=4.5)


def measure(quick: bool) -> list[Row]:
    rounds = 1 if quick else 3
    run: list[int] = []
    waits: list[float] = []
    with Live() as live:
        for kind, code in KINDS.items():
            live.deploy(
                kind, code, annotations={"rescoldo.dev/concurrency": "1"}, labels={"com.openfaas.scale.max": "1"}
            )
            path = f"/function/{kind}"
            before = int(get_ok(live.port, f"{path}/run").body)
            for number in range(rounds):
                for _ in range(LEAVERS):
                    _leave(live.port, path)
                begin = time.monotonic()
                get_ok(live.port, path)
                waits.append(time.monotonic() - begin)
                after = int(get_ok(live.port, f"{path}/run").body)
                run.append(after - before)
                before = after
                say(f"abandoned: {kind}, round {number + 1}/{rounds}: {run[-1]} handlers run, {waits[-1]:.2f} s")
    how = f"the worst of {len(run)} rounds, sync and async handlers; a client leaves after {STAY} s"
    return [RUN.row(max(run), how), WAIT.row(max(waits), how)]


def _leave(port: int, path: str) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        time.sleep(STAY)


MEASUREMENT = Measurement("abandoned", (RUN, WAIT), measure)
