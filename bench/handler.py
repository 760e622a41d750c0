"""Compares a warm Python handler in its instance with the same handler under uvicorn."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import h2load
from client import get_ok
from in_turn import in_turn, ratio_row
from paths import BENCH
from rows import Bar, Measurement, Row
from support.gateway import HELLO
from support.live import Live

CONNECTIONS = 32
AWAKE = {"com.openfaas.scale.zero": "false", "com.openfaas.scale.max": "1"}

ASYNC = Bar("warm Python handler: requests/s of one instance ÷ the same under uvicorn as plain ASGI", "", least=0.8)
SYNC = Bar("the same with a plain (sync) handler, which runs in a thread", "")


def measure(quick: bool) -> list[Row]:
    """Load the instance's socket without the edge, so that only the handler's server counts."""
    rounds, seconds = (2, 1) if quick else (9, 4)
    with Live() as live:
        sockets = {"async": _awake(live, "async-hello", f"async {HELLO}"), "sync": _awake(live, "sync-hello", HELLO)}
        with _uvicorn(live) as reference:
            sockets["uvicorn"] = reference
            runs = {name: partial(h2load.run, socket, seconds, CONNECTIONS) for name, socket in sockets.items()}
            rates = in_turn("handler:", runs, rounds)
    how = (
        "an isolated instance as shipped, against one uvicorn process (httptools, uvloop, no access log), both at "
        f"their Unix socket; h2load with HTTP/1.1, one thread and {CONNECTIONS} connections that are kept, {rounds} × "
        f"{seconds} s each in turn, median of the rounds"
    )
    return [ratio_row(bar, rates, name, "uvicorn", how) for bar, name in ((ASYNC, "async"), (SYNC, "sync"))]


def _awake(live: Live, name: str, code: str) -> Path:
    """Return the socket of a function's only instance, which stays awake."""
    live.deploy(name, code, labels=AWAKE)
    live.until(lambda: live.replicas(name) == 1, f"{name} to be awake")
    get_ok(live.port, f"/function/{name}")
    (socket,) = (path for path in live.instances() if path.name.startswith(name))
    return socket


@contextmanager
def _uvicorn(live: Live) -> Iterator[Path]:
    """Run uvicorn; yield its socket once it answers."""
    socket = live.folder / "uvicorn.sock"
    options = ["--http", "httptools", "--loop", "uvloop", "--no-access-log", "--log-level", "warning"]
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(BENCH), "--uds", str(socket), *options, "asgi_app:app"]
    process = subprocess.Popen(command)
    try:
        live.until(socket.exists, "uvicorn to listen")
        h2load.run(socket, 1, CONNECTIONS)
        yield socket
    finally:
        process.terminate()
        process.wait()


MEASUREMENT = Measurement("handler", (ASYNC, SYNC), measure, ("h2load",))
