"""Measures the edge's cost for warm requests against the same upstream called directly, and the proxy's own share
of it.

The measured path is client -> edge as shipped -> Go upstream: a Python function is deployed and woken, then the
upstream replaces its server in the edge's slot over the Runtime API. Routes, limits, headers, access log and
recording are those of any function. The same rounds also call the upstream through a HAProxy with none of these,
which is the lower bound for any edge built with HAProxy.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import bare_proxy
import wrk
from client import get_ok
from go_upstream import Upstream, running
from processes import cpu_seconds
from rescoldo.edge.haproxy import HaproxyEdge
from rescoldo.edge.protocol import LiveServer
from rescoldo.model.limits import Limits
from rescoldo.model.names import InstanceId
from rows import Bar, Measurement, MeasurementFailed, Row, say
from support.gateway import HELLO
from support.live import Live

CONNECTIONS = 32
NAME = "warm"
UPSTREAM = InstanceId("upstream")

THROUGHPUT = Bar("warm throughput through the edge ÷ straight to the same upstream, GET", "", least=0.45)
BARE = Bar("the same through a HAProxy without any rule: what the proxy alone would reach", "")
CPU = Bar("CPU of the edge per warm request ÷ CPU of the upstream per request", "", most=2.0)
THROUGHPUT_POST = Bar("warm throughput through the edge ÷ straight to the same upstream, POST of 1 KiB", "")


@dataclass(frozen=True, slots=True)
class Target:
    """The URL to load, and the process whose CPU time counts."""

    url: str
    pid: int


@dataclass(frozen=True, slots=True)
class Run:
    """One run of wrk."""

    requests: int
    per_second: float
    cpu: float  # seconds of the target's process
    controller: float  # seconds of the controller, which reads the access log at the same time


def measure(quick: bool) -> list[Row]:
    pairs, seconds = (3, 2) if quick else (7, 3)
    with (
        Live() as live,
        running(live.folder / "upstream.sock") as upstream,
        diverted(live, upstream),
        bare_proxy.running(live, f"unix@{upstream.socket}") as proxy,
    ):
        targets = {
            "direct": Target(f"http://127.0.0.1:{upstream.port}/", upstream.pid),
            "edge": Target(f"http://127.0.0.1:{live.port}/function/{NAME}", live.pid("edge")),
            "bare": Target(f"http://127.0.0.1:{proxy.port}/", proxy.pid),
        }
        compare(live, targets, 1, 1)  # warms caches and connections
        before = live.invocations(NAME)
        gets = compare(live, targets, pairs, seconds)
        recorded = _recorded(live, before + sum(run.requests for run in gets["edge"])) - before
        del targets["bare"]
        posts = compare(live, targets, max(2, pairs // 2), seconds, post=True)
        if get_ok(live.port, f"/function/{NAME}").body != b"upstream":
            raise MeasurementFailed("the edge did not call the upstream to the end")
    direct, edge, bare = gets["direct"], gets["edge"], gets["bare"]
    return [
        THROUGHPUT.row(
            _ratio(edge, direct),
            f"{_rates(edge, direct)}; client → edge as shipped → Go net/http over a Unix socket, against the same "
            f"process over TCP; wrk with one thread and {CONNECTIONS} connections, {pairs} × {seconds} s each in turn, "
            f"median of the pairs; {recorded:,} of {sum(run.requests for run in edge):,} calls recorded",
        ),
        BARE.row(
            _ratio(bare, direct),
            f"{_rates(bare, direct)}, in the same rounds; {_cpu(bare) * 1e6:.1f} µs of HAProxy a request. It routes, "
            "limits, names and records nothing",
        ),
        CPU.row(
            _cpu(edge) / _cpu(direct),
            f"{_cpu(edge) * 1e6:.1f} µs of HAProxy (runs through it) against {_cpu(direct) * 1e6:.1f} µs of the Go "
            f"upstream (runs straight to it), GET, medians; beside it {_controller(edge) * 1e6:.1f} µs of the "
            "controller, which records",
        ),
        THROUGHPUT_POST.row(_ratio(posts["edge"], posts["direct"]), _rates(posts["edge"], posts["direct"])),
    ]


def compare(
    live: Live, targets: dict[str, Target], rounds: int, seconds: int, *, post: bool = False
) -> dict[str, list[Run]]:
    """Run wrk against each target in turn."""
    method = "POST" if post else "GET"
    runs: dict[str, list[Run]] = {name: [] for name in targets}
    for number in range(rounds):
        for name, target in targets.items():
            runs[name].append(_run(live, target, seconds, post))
        last = ", ".join(f"{name} {found[-1].per_second:,.0f}" for name, found in runs.items())
        say(f"warm: {method} {number + 1}/{rounds}: {last} requests/s")
    return runs


@contextmanager
def diverted(live: Live, upstream: Upstream) -> Iterator[None]:
    """Keep a function awake whose calls the edge sends to the upstream."""
    # one instance: a second one would serve calls beside the upstream that replaces the first
    live.deploy(NAME, HELLO, labels={"com.openfaas.scale.zero": "false", "com.openfaas.scale.max": "1"})
    live.until(lambda: live.replicas(NAME) == 1, "the function to be awake")
    get_ok(live.port, f"/function/{NAME}")

    async def exchange() -> LiveServer:
        edge = HaproxyEdge(live.settings)
        ((slot, instance),) = await edge.servers()
        server = LiveServer(slot, UPSTREAM, f"unix@{upstream.socket}", Limits().concurrency)
        await edge.add_server(server)
        await edge.remove_server(slot, instance)
        return server

    server = asyncio.run(exchange())
    if get_ok(live.port, f"/function/{NAME}").body != b"upstream":
        raise MeasurementFailed("the edge does not call the upstream")
    try:
        yield
    finally:  # otherwise the slot would be released with a foreign server in it
        asyncio.run(HaproxyEdge(live.settings).remove_server(server.slot, server.instance))


def _run(live: Live, target: Target, seconds: int, post: bool) -> Run:
    controller = live.pid("controller")
    before, before_controller = cpu_seconds(target.pid), cpu_seconds(controller)
    seen = wrk.run(target.url, seconds, CONNECTIONS, post=post)
    return Run(
        seen.requests, seen.per_second, cpu_seconds(target.pid) - before, cpu_seconds(controller) - before_controller
    )


def _recorded(live: Live, expected: int) -> int:
    """Return the number of counted calls once all are counted or PATIENCE has passed."""
    try:
        # at its end wrk abandons up to CONNECTIONS calls that its own count leaves out
        live.until(lambda: live.invocations(NAME) >= expected, "the calls to be recorded")
    except AssertionError:
        return live.invocations(NAME)
    return expected


def _ratio(edge: list[Run], direct: list[Run]) -> float:
    return statistics.median(e.per_second / d.per_second for e, d in zip(edge, direct, strict=True))


def _rates(edge: list[Run], direct: list[Run]) -> str:
    through, straight = (statistics.median(run.per_second for run in runs) for runs in (edge, direct))
    return f"{through:,.0f} against {straight:,.0f} requests/s"


def _cpu(runs: list[Run]) -> float:
    """Return the CPU seconds per request."""
    return statistics.median(run.cpu / run.requests for run in runs)


def _controller(runs: list[Run]) -> float:
    """Return the controller's CPU seconds per request."""
    return statistics.median(run.controller / run.requests for run in runs)


MEASUREMENT = Measurement("warm", (THROUGHPUT, BARE, CPU, THROUGHPUT_POST), measure, ("wrk", "go"))
