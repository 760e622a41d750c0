"""Measures a Go HTTP server as a function against the same program by itself."""

from __future__ import annotations

import json
import shutil
import statistics
from functools import partial
from pathlib import Path

import bare_proxy
import wrk
from client import get_ok
from cold import cold_call, first_answer
from go_upstream import build
from in_turn import in_turn, ratio_row
from paths import ROOT
from processes import wait_calm
from rows import Bar, Measurement, Row, say
from support.live import Live
from support.ports import free_ports

SOURCE = ROOT / "examples" / "go-http"
PORT = 8000  # of each instance
CONNECTIONS = 32

COLD = Bar("cold start of a small Go HTTP binary, whole call ÷ bare exec until it answers", "", most=1.6)
COLD_INHERITED = Bar("the same cold start with an inherited socket", "")
WARM_INHERITED = Bar("the same throughput with an inherited socket", "")
WARM_BARE = Bar("the same throughput through a HAProxy without any rule, at its address", "")
WARM = Bar("warm throughput of an isolated HTTP binary ÷ straight to it", "", least=0.45)


def measure_cold(quick: bool) -> list[Row]:
    """Alternate a cold call of the function with an exec of the same file."""
    count = 12 if quick else 120
    with Live() as live:
        program = _deploy(live, {"tcp": f"http://127.0.0.1:{PORT}", "inherited": "inherited"})
        for name in ("tcp", "inherited"):  # the first start reads the bundle from disk
            get_ok(live.port, f"/function/{name}")
        times: dict[str, list[float]] = {"tcp": [], "inherited": [], "bare": []}
        for _ in range(count):
            for name in ("tcp", "inherited"):
                _sleep(live, name)
                times[name].append(cold_call(live, name).seconds)
            times["bare"].append(first_answer_of(program))
    medians = {name: statistics.median(found) * 1000 for name, found in times.items()}
    say(f"programs: cold {medians['tcp']:.1f} (tcp), {medians['inherited']:.1f} (inherited), "
        f"bare exec {medians['bare']:.1f} ms")  # fmt: skip
    how = (
        f"medians of {count} each in turn; examples/go-http on a new connection, against an exec of the same file "
        "without isolation, connected to in a tight loop"
    )
    return [
        bar.row(medians[name] / medians["bare"], f"{medians[name]:.1f} ms against {medians['bare']:.1f} ms, {how}")
        for bar, name in ((COLD, "tcp"), (COLD_INHERITED, "inherited"))
    ]


def measure_warm(quick: bool) -> list[Row]:
    """Alternate wrk through the edge with wrk straight to the same instance."""
    pairs, seconds = (3, 1) if quick else (7, 3)
    with Live() as live:
        _deploy(live, {"tcp": f"http://127.0.0.1:{PORT}", "inherited": "inherited"})
        for name in ("tcp", "inherited"):
            get_ok(live.port, f"/function/{name}")
        urls = {name: f"http://127.0.0.1:{live.port}/function/{name}" for name in ("tcp", "inherited")}
        urls["straight"] = f"http://{_address(live, 'tcp')}/"
        with bare_proxy.running(live, _address(live, "tcp")) as proxy:
            urls["bare"] = f"http://127.0.0.1:{proxy.port}/"
            for url in urls.values():  # warms caches and connections
                wrk.run(url, 1, CONNECTIONS)
            runs = {name: partial(_rate, url, seconds) for name, url in urls.items()}
            rates = in_turn("programs: warm", runs, pairs)
    how = (
        f"client → edge as shipped → examples/go-http, isolated, against its process at its own address; wrk with one "
        f"thread and {CONNECTIONS} connections, {pairs} × {seconds} s each in turn, median of the pairs"
    )
    bars = {"tcp": WARM, "inherited": WARM_INHERITED}
    return [
        *(ratio_row(bar, rates, name, "straight", how) for name, bar in bars.items()),
        ratio_row(WARM_BARE, rates, "bare", "straight", "in the same rounds"),
    ]


def _rate(url: str, seconds: int) -> float:
    return wrk.run(url, seconds, CONNECTIONS).per_second


def first_answer_of(program: Path) -> float:
    """Return the seconds until a new, unisolated process of `program` answers."""
    (port,) = free_ports(1)
    return first_answer([str(program)], port, PORT=str(port))


def _deploy(live: Live, upstreams: dict[str, str]) -> Path:
    """Deploy the program under each name with its upstream_url; return the program's file."""
    folder = live.folder / "program"
    folder.mkdir()
    program = Path(shutil.copy(build(SOURCE), folder / "server"))
    for name, upstream in upstreams.items():
        # a single instance, since `straight` measures a single process
        live.deploy_program(name, folder, "./server", upstream, labels={"com.openfaas.scale.max": "1"})
    return program


def _sleep(live: Live, name: str) -> None:
    live.sleep(name)
    live.until(lambda: not _notes(live, name), f"{name} to be gone")
    wait_calm(live)


def _address(live: Live, name: str) -> str:
    (note,) = _notes(live, name)
    return str(note["address"])


def _notes(live: Live, name: str) -> list[dict[str, object]]:
    """Return the node's notes on the function's instances."""
    found = []
    for file in live.settings.instance_state.glob(f"{name}-*.json"):
        try:
            found.append(json.loads(file.read_text()))
        except FileNotFoundError:  # the instance has just ended
            continue
    return found


MEASUREMENTS = (
    Measurement("program-cold", (COLD, COLD_INHERITED), measure_cold, ("go",)),
    Measurement("program-warm", (WARM, WARM_INHERITED, WARM_BARE), measure_warm, ("wrk", "go")),
)
