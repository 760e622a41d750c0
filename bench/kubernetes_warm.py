"""Measures warm calls through a gateway and a worker against calls straight to the instance: the time of one client,
and the rate of 32."""

from __future__ import annotations

import json
import shutil
import socket
import statistics
import time
from functools import partial
from pathlib import Path

import kubernetes_node as node
import wrk
from go_upstream import build
from in_turn import Rates, in_turn, ratio_row
from kubernetes_cell import Cell, CellMeasurement, spread
from paths import ROOT
from rows import Bar, MeasurementFailed, Row, say
from support.gateway import HELLO

CONNECTIONS = 32
PORT = 8000  # of the program
CALLS = 1000  # of one client in a round
AWAKE = {"com.openfaas.scale.zero": "false", "com.openfaas.scale.max": "1"}  # one instance, as `straight` is one
NODES_NOTES = "dev/shm/rescoldo-*/*/n/{}-*.json"  # of a worker's instances (model/rundir.py, model/settings.py)

ADDED = Bar("warm, one client: through gateway and worker − straight to the instance, median", "ms", most=0.3)
ABOUT = f"warm throughput, {CONNECTIONS} clients: through gateway and worker ÷ straight to the program"
GET = Bar(f"{ABOUT}, GET", "", least=0.22)
POST = Bar("the same, POST of 1 KiB", "", least=0.18)
GET_TCP = Bar("the same with the program at a TCP port, GET", "")
POST_TCP = Bar("the same with the program at a TCP port, POST of 1 KiB", "")


def measure_one(cell: Cell, quick: bool) -> list[Row]:
    """Call one function over one connection that stays, in turn through the gateway and at the instance's socket."""
    rounds = 3 if quick else 9
    cell.workers(1)
    cell.upload("warm:bench", HELLO)
    with cell.deployed({"warm": {"image": "warm:bench", "labels": AWAKE}}):
        cell.until(lambda: cell.replicas("warm") == 1, "the function to be awake")
        cell.get("warm")
        straight = _socket_of(cell, "warm")
        times: dict[str, list[float]] = {"through": [], "straight": []}
        for number in range(rounds + 1):
            with _connected(cell) as gateway, _connected(straight) as instance:
                through = _median(gateway, "/function/warm") * 1000
                direct = _median(instance, "/") * 1000
            say(f"warm: round {number}/{rounds}: through {through:.3f}, straight {direct:.3f} ms")
            if number:  # the first round warms up
                times["through"].append(through)
                times["straight"].append(direct)
    added = [one - other for one, other in zip(times["through"], times["straight"], strict=True)]
    return [
        ADDED.row(
            statistics.median(added),
            f"{statistics.median(times['through']):.3f} − {statistics.median(times['straight']):.3f} ms; a client on "
            "the host with one connection that stays, GET of a Python function, to the gateway's pod and to the "
            f"instance's Unix socket (through /proc/PID/root); medians of {CALLS} calls each, in turn; median of "
            f"{rounds} rounds, {spread(added, 3)} ms",
        )
    ]


def _socket_of(cell: Cell, name: str) -> Path:
    """Return the path by which the host reaches the socket of a function's only instance."""
    (worker,) = cell.folders("worker")
    (note,) = node.inside(worker, "").glob(NODES_NOTES.format(name))
    kind, _, path = str(json.loads(note.read_text())["address"]).partition("@")
    if kind != "unix":
        raise MeasurementFailed(f"the instance of {name} has no socket")
    return node.inside(worker, path)


def _connected(where: Cell | Path) -> socket.socket:
    if isinstance(where, Cell):
        return socket.create_connection((where.host, where.port))
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(where))
    return connection


def _median(connection: socket.socket, path: str) -> float:
    """Return the median seconds of CALLS calls over one connection. Raises MeasurementFailed if one fails."""
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    times = []
    for _ in range(CALLS):
        begin = time.perf_counter()
        connection.sendall(request)
        received = b""
        while not received.endswith(b"\r\n\r\nhello"):
            chunk = connection.recv(65536)
            if not chunk:
                raise MeasurementFailed(f"GET {path}: the connection ended within the answer {received[:200]!r}")
            received += chunk
        times.append(time.perf_counter() - begin)
        if not received.startswith(b"HTTP/1.1 200"):
            raise MeasurementFailed(f"GET {path}: {received[:200]!r}")
    return statistics.median(times)


def measure_many(cell: Cell, quick: bool) -> list[Row]:
    """Load a Go program, in turn through the gateway (at a socket that it inherits, and at a TCP port) and straight to
    its port in the worker's pod."""
    rounds, seconds = (2, 1) if quick else (5, 3)
    cell.workers(1)
    upstreams = {"inherited": "inherited", "tcp": f"http://127.0.0.1:{PORT}"}
    _deploy_programs(cell, upstreams)
    try:
        for name in upstreams:
            cell.get(name)
        (worker,) = cell.pods("worker")
        urls = {name: cell.url(name) for name in upstreams}
        urls["straight"] = f"http://{worker['status']['podIP']}:{PORT}/"
        gets, posts = (_rates(urls, rounds, seconds, post=post) for post in (False, True))
    finally:
        cell.remove(upstreams)
    how = (
        f"wrk on the host with one thread and {CONNECTIONS} connections → gateway → worker → examples/go-http, against "
        f"another process of the same program in the same pod, at port {PORT} of the pod's address; "
        f"{rounds} × {seconds} s each in turn, median of the rounds"
    )
    return [
        ratio_row(GET, gets, "inherited", "straight", f"{how}; over a Unix socket (upstream_url: inherited)"),
        ratio_row(POST, posts, "inherited", "straight", "in the same way"),
        ratio_row(GET_TCP, gets, "tcp", "straight", "in the same rounds"),
        ratio_row(POST_TCP, posts, "tcp", "straight", "in the same rounds"),
    ]


def _deploy_programs(cell: Cell, upstreams: dict[str, str]) -> None:
    folder = cell.folder / "program"
    folder.mkdir(exist_ok=True)
    shutil.copy(build(ROOT / "examples" / "go-http"), folder / "server")
    for name, upstream in upstreams.items():
        cell.deploy_program(name, folder, "./server", upstream, labels=AWAKE)


def _rates(urls: dict[str, str], rounds: int, seconds: int, *, post: bool) -> Rates:
    for url in urls.values():  # warms caches and connections
        _rate(url, 1, post=post)
    runs = {name: partial(_rate, url, seconds, post=post) for name, url in urls.items()}
    return in_turn(f"throughput: {'POST' if post else 'GET'}", runs, rounds)


def _rate(url: str, seconds: int, *, post: bool) -> float:
    return wrk.run(url, seconds, CONNECTIONS, post=post).per_second


MEASUREMENTS = (
    CellMeasurement("warm", (ADDED,), measure_one),
    CellMeasurement("throughput", (GET, POST, GET_TCP, POST_TCP), measure_many, ("wrk", "go")),
)
