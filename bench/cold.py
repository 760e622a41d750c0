"""Measures cold starts: whole HTTP calls on new connections to sleeping functions, one after another."""

from __future__ import annotations

import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import wrk
from client import Reply, get, get_ok
from paths import BENCH
from processes import SPARE, cpu_seconds, machine_busy_seconds, sleep_all, wait_calm
from rescoldo.model.ids import INSTANCE_UIDS
from rows import Bar, Measurement, MeasurementFailed, Row, quantile, say
from support.live import Live, children_of, comm
from support.ports import free_ports

FUNCTIONS = 200
SANDBOXED = 40  # calls in a round; each finds a pre-made sandbox
# stdlib_server.py has the same handler; the response proves that each function has its own uid
UID = "import os\n\ndef handle(event, context):\n    return str(os.getuid())\n"
SPIN_SECONDS = 0.02  # CPU seconds of one call of the loading function
SPIN = (
    "import time\n\ndef handle(event, context):\n    begin = time.thread_time()\n"
    f"    while time.thread_time() - begin < {SPIN_SECONDS}:\n        pass\n    return 'spun'\n"
)

P50 = Bar("cold start of a Python function with its own uid, p50", "ms", most=7.0)
P99 = Bar("cold start of a Python function with its own uid, p99", "ms", most=25.0)
SANDBOX_P50 = Bar("cold start of a fully isolated Python function, pre-made sandbox, p50", "ms", most=4.0)
SANDBOX_P99 = Bar("cold start of a fully isolated Python function, pre-made sandbox, p99", "ms", most=15.0)
STDLIB = Bar("a stdlib http.server process, exec to first answer ÷ our cold start", "", least=8.0)
LOADED = Bar("cold start while another function is loaded to half of the machine, p50", "ms", most=20.0)


def measure(quick: bool) -> list[Row]:
    """Call all functions once in each round, one after another."""
    rounds = 2 if quick else 7
    names = _names()
    with Live() as live:
        deploy(live, names)
        _warm_up(live, names)
        times, uids = [], 0
        for number in range(rounds):
            sleep_all(live, names)
            replies = [cold_call(live, name) for name in names]
            uids = check_uids(replies)
            times.append([reply.seconds * 1000 for reply in replies])
            say(f"cold: round {number + 1}/{rounds}: p50 {quantile(times[-1], 0.5):.1f}, "
                f"p99 {quantile(times[-1], 0.99):.1f} ms")  # fmt: skip
    how = (
        f"connect to last byte on a new connection, {FUNCTIONS} functions one after another, {uids} uids among them; "
        f"median of {rounds} rounds"
    )
    return [
        bar.row(statistics.median(shares), f"{how}: {min(shares):.1f} to {max(shares):.1f} ms")
        for bar, share in ((P50, 0.5), (P99, 0.99))
        for shares in [[quantile(one, share) for one in times]]
    ]


def measure_sandboxed(quick: bool) -> list[Row]:
    """Call fewer functions than there are spares, one after another; each round begins with all spares ready."""
    rounds = 3 if quick else 9
    names = _names()[:SANDBOXED]
    with Live(spares=SANDBOXED + 20) as live:
        if (level := json.loads(live.system("GET", "/status").text)["isolation"]["level"]) != "full":
            raise MeasurementFailed(f"the level of isolation is {level} here, not full")
        deploy(live, names)
        _warm_up(live, names)
        times = []
        for number in range(rounds):
            sleep_all(live, names)
            live.until(lambda: _spares(live) == live.settings.spares, "the spares to be made")
            wait_calm(live)
            times.append([cold_call(live, name).seconds * 1000 for name in names])
            say(f"sandboxed: round {number + 1}/{rounds}: p50 {quantile(times[-1], 0.5):.1f}, "
                f"p99 {quantile(times[-1], 0.99):.1f} ms")  # fmt: skip
    how = (
        f"connect to last byte on a new connection, {SANDBOXED} functions one after another with "
        f"{SANDBOXED + 20} spares; of all {rounds * SANDBOXED} calls"
    )
    together = [one for many in times for one in many]
    return [bar.row(quantile(together, share), how) for bar, share in ((SANDBOX_P50, 0.5), (SANDBOX_P99, 0.99))]


def _spares(live: Live) -> int:
    return sum(comm(pid) == SPARE for pid in children_of(live.pid("zygote")))


def measure_against_stdlib(quick: bool) -> list[Row]:
    """Alternate our cold call with a new process of the reference."""
    names = _names()[: 15 if quick else 60]
    with Live() as live:
        deploy(live, names)
        _warm_up(live, names)
        ours, reference = [], []
        for name in names:
            ours.append(cold_call(live, name).seconds)
            reference.append(first_answer_of_stdlib())
    here, there = (statistics.median(times) * 1000 for times in (ours, reference))
    say(f"stdlib: ours {here:.1f}, http.server {there:.1f} ms")
    return [
        STDLIB.row(
            there / here,
            f"{there:.1f} ms against {here:.1f} ms, medians of {len(names)} each in turn; the reference is "
            f"{sys.implementation.name} {sys.version.split()[0]} running bench/stdlib_server.py, connected to in a "
            "tight loop",
        )
    ]


def measure_loaded(quick: bool) -> list[Row]:
    """Make cold calls while half as many functions as the machine has cores spin."""
    cores = len(os.sched_getaffinity(0))
    busy = [f"busy-{number}" for number in range(max(1, cores // 2))]
    rounds, names = (1, _names()[:100]) if quick else (3, _names())
    medians, loads = [], []
    with Live() as live:
        deploy(live, names)
        deploy(live, busy, SPIN, "spin:bench")
        for number in range(rounds):
            sleep_all(live, [*names, *busy])
            with spinning(live, busy) as load:
                medians.append(statistics.median(cold_call(live, name).seconds * 1000 for name in names))
            loads.append(load)
            say(f"loaded: round {number + 1}/{rounds}: p50 {medians[-1]:.1f} ms, spinning {load.functions:.0%}, "
                f"busy {load.machine:.0%} of {cores} cores")  # fmt: skip
    functions, machine = (
        statistics.median(shares) for shares in ([one.functions for one in loads], [one.machine for one in loads])
    )
    return [
        LOADED.row(
            statistics.median(medians),
            f"median of {rounds} rounds of {len(names)} functions; {len(busy)} other function(s), called without end, "
            f"used {functions:.0%} of {cores} cores, all together {machine:.0%}",
        )
    ]


@dataclass(slots=True)
class Load:
    """Shares of all cores while functions spin; set when they stop."""

    functions: float = 0.0  # used by the spinning functions
    machine: float = 0.0  # used by all processes


@contextmanager
def spinning(live: Live, busy: list[str]) -> Iterator[Load]:
    """Call `busy` functions in an endless loop, each over a connection of its own."""
    for name in busy:
        get_ok(live.port, f"/function/{name}")
    pids = [pid for name in busy for pid in live.instance_pids(name)]
    reports = [live.folder / f"{name}.wrk" for name in busy]
    callers = [
        wrk.endless(f"http://127.0.0.1:{live.port}/function/{name}", report)
        for name, report in zip(busy, reports, strict=True)
    ]
    load = Load()
    try:
        begun = [cpu_seconds(pid) for pid in pids]
        live.until(
            lambda: all(cpu_seconds(pid) - cpu > 0.5 for pid, cpu in zip(pids, begun, strict=True)), "functions to spin"
        )
        before, machine, begin = sum(map(cpu_seconds, pids)), machine_busy_seconds(), time.monotonic()
        yield load
        capacity = (time.monotonic() - begin) * len(os.sched_getaffinity(0))
        load.functions = (sum(map(cpu_seconds, pids)) - before) / capacity
        load.machine = (machine_busy_seconds() - machine) / capacity
    finally:
        for caller in callers:
            caller.send_signal(signal.SIGINT)
            caller.wait()
    for name, report in zip(busy, reports, strict=True):
        wrk.parse(report.read_text(), name)


def deploy(live: Live, names: list[str], code: str = UID, image: str = "uid:bench") -> None:
    """Deploy functions that share one bundle."""
    live.upload(image, code)
    for name in names:
        live.deploy(name, image=image)


def cold_call(live: Live, name: str) -> Reply:
    """Call a function. Raises MeasurementFailed unless the function was asleep and the call succeeds."""
    reply = get_ok(live.port, f"/function/{name}")
    if not reply.cold:
        raise MeasurementFailed(f"{name} was not asleep")
    return reply


def check_uids(replies: list[Reply]) -> int:
    """Return the number of different uids. Raises MeasurementFailed if a uid is not one of the node's instance uids."""
    uids = {int(reply.body) for reply in replies}
    if os.geteuid() == 0 and not all(uid in INSTANCE_UIDS for uid in uids):
        raise MeasurementFailed(f"functions ran with the uids {sorted(uids)[:5]} …, which are not instances'")
    return len(uids)


def first_answer_of_stdlib() -> float:
    """Return the seconds until a new http.server process answers."""
    (port,) = free_ports(1)
    return first_answer([sys.executable, str(BENCH / "stdlib_server.py"), str(port)], port)


def first_answer(command: list[str], port: int, **variables: str) -> float:
    """Return the seconds from before the exec of `command`, which listens on `port`, to the last byte of its first
    response."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, **variables}, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                get(port, "/")
                return time.perf_counter() - begin
            except ConnectionRefusedError:  # retry at once: a pause would add to the measured time
                if process.poll() is not None:
                    raise MeasurementFailed(f"{shlex.join(command)} ended before its first answer") from None
    finally:
        process.kill()
        process.wait()


def _warm_up(live: Live, names: list[str]) -> None:
    """Start the bundle once: its first start reads it from disk, a cost of the installation and not of the function."""
    for name in names[:3]:
        get_ok(live.port, f"/function/{name}")
    sleep_all(live, names[:3])


def _names() -> list[str]:
    return [f"cold-{number}" for number in range(FUNCTIONS)]


MEASUREMENTS = (
    Measurement("cold", (P50, P99), measure),
    Measurement("sandboxed", (SANDBOX_P50, SANDBOX_P99), measure_sandboxed),
    Measurement("stdlib", (STDLIB,), measure_against_stdlib),
    Measurement("loaded", (LOADED,), measure_loaded, ("wrk",)),
)
