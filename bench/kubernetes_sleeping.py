"""Measures a thousand sleeping functions: deployed with the command, what they are to Kubernetes, and control's start
with them."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable

import kubernetes_node as node
import kubernetes_requests as requests
from kubernetes_cell import AWHILE, Cell, CellMeasurement, spread
from rows import Bar, MeasurementFailed, Row, say
from support.gateway import HELLO
from support.installed import COMMAND
from support.testcluster import get, kubectl

FUNCTIONS = 1000
IMAGE = "sleeping:bench"
KINDS = ("pods", "services", "endpointslices", "deployments")
SPAN = 60.0  # seconds of observed rest
DELETIONS = 3
POLL = 0.02  # seconds between two looks for control's answer
LONGEST = 60.0  # seconds without it

ABOUT = f"{FUNCTIONS:,} sleeping functions"
OBJECTS = Bar(f"{ABOUT}: Pods, Services, EndpointSlices and Deployments more than without them", "", most=0)
REQUESTS = Bar(f"{ABOUT}: requests to the API server at rest", "/s", most=1)
DEPLOY = Bar(f"{ABOUT}: deployed by `rescoldo deploy --no-start`, `rollout: immediate`", "functions/s", least=50)
DEPLOY_API = Bar(f"{ABOUT}: deployed by requests to the API, rollout=immediate", "functions/s")
KILLED = Bar(f"{ABOUT}: control killed, until /system lists all of them", "s", most=5)
DELETED = Bar(f"{ABOUT}: control's pod deleted, until /system lists all of them", "s", most=5)
LIST = Bar(f"{ABOUT}: list", "s")


def measure(cell: Cell, quick: bool) -> list[Row]:
    count = 200 if quick else FUNCTIONS
    names = [f"sleeping-{number}" for number in range(count)]
    only = f"{count} functions only; " if quick else ""
    cell.workers(2)
    cell.upload(IMAGE, HELLO)
    before = _objects()
    by_api = _deploy_by_api(cell, names)
    cell.remove(names)
    cell.wait_calm()
    by_command = _deploy_by_command(cell, names)
    try:
        more = _objects() - before
        cell.wait_calm()
        rate, told = _requests(SPAN / 4 if quick else SPAN)
        lists = [cell.system("GET", "/functions").seconds for _ in range(3)]
        killed = outage(cell, count, lambda: _kill_control(cell))
        deleted = [outage(cell, count, lambda: delete_control(cell)) for _ in range(1 if quick else DELETIONS)]
    finally:
        cell.remove(names)
    return [
        OBJECTS.row(len(more), f"{only}of all namespaces{': ' + ', '.join(sorted(more)[:5]) if more else ''}"),
        REQUESTS.row(rate, f"{only}{told}"),
        DEPLOY.row(by_command, f"{only}the whole command with one stack.yaml, --parallel as shipped"),
        DEPLOY_API.row(by_api, f"{only}8 clients, a new connection a request, through the gateway"),
        KILLED.row(
            killed,
            f"{only}SIGKILL of its processes, kubelet starts its container again; one run; polled through the gateway "
            f"each {POLL * 1000:.0f} ms",
        ),
        DELETED.row(
            statistics.median(deleted),
            f"{only}from the request to delete it; without a volume, so its successor has functions but no bundles; "
            f"median of {len(deleted)}, {spread(deleted)} s",
        ),
        LIST.row(
            statistics.median(lists), f"{only}GET /system/functions on a connection of its own, whole; median of 3"
        ),
    ]


def _objects() -> set[str]:
    found = set()
    for kind in KINDS:
        for one in get(kind, "--all-namespaces")["items"]:
            found.add(f"{kind}/{one['metadata']['name']}")
    return found


def _deploy_by_api(cell: Cell, names: list[str]) -> float:
    begin = time.perf_counter()
    cell.deploy_all({name: {"image": IMAGE} for name in names})
    rate = len(names) / (time.perf_counter() - begin)
    say(f"sleeping: deployed by the API at {rate:.0f}/s")
    return rate


def _deploy_by_command(cell: Cell, names: list[str]) -> float:
    """Deploy with the whole command; return functions/s."""
    user, password = cell.login()
    url = f"http://{cell.host}:{cell.port}"
    _rescoldo(cell, "login", "--username", user, "--password-stdin", "--gateway", url, stdin=password)
    function = (
        f"    lang: python3-http\n    handler: ./sleeping\n    skip_build: true\n    image: {IMAGE}\n    labels:\n"
        + "".join(f"      {key}: {value}\n" for key, value in AWHILE.items())
        + "    annotations:\n      rescoldo.dev/rollout: immediate\n"
    )
    stack = cell.folder / "stack.yaml"
    text = "".join(f"  {name}:\n{function}" for name in names)
    stack.write_text(f"version: 1.0\nprovider:\n  name: openfaas\nfunctions:\n{text}")
    begin = time.perf_counter()
    said = _rescoldo(cell, "deploy", "--no-start", "--json", "--yaml", str(stack), "--gateway", url)
    rate = len(names) / (time.perf_counter() - begin)
    if len(json.loads(said)) != len(names):
        raise MeasurementFailed(f"{len(json.loads(said))} functions were deployed instead of {len(names)}")
    say(f"sleeping: deployed by the command at {rate:.0f}/s")
    return rate


def _rescoldo(cell: Cell, *arguments: str, stdin: str = "") -> str:
    """Run a verb; return its output."""
    environment = {**os.environ, "HOME": str(cell.folder)}
    done = subprocess.run(
        [COMMAND, *arguments], env=environment, input=stdin, capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        raise MeasurementFailed(f"rescoldo {arguments[0]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def _requests(span: float) -> tuple[float, str]:
    """Return our requests a second while nothing happens, and a description."""
    say(f"sleeping: watching for {span:g} s")
    before, begin = requests.scrape(), time.monotonic()
    time.sleep(span)  # the measurement: nothing happens
    after, seconds = requests.scrape(), time.monotonic() - begin
    kinds = requests.by_kind(after) - requests.by_kind(before)
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(6)) or "none"
    number = requests.ours(after) - requests.ours(before)
    return number / seconds, (
        f"{number:.0f} in {seconds:.0f} s of control and both gateways, as the API server counts service accounts "
        f"outside of kube-system ({requests.METRIC}); of everybody in that time, by kind: {told}"
    )


def outage(cell: Cell, count: int, strike: Callable[[], None]) -> float:
    """Return the seconds from before the strike until control's next process lists all functions."""
    begin = time.perf_counter()
    strike()
    while cell.listed() == count:  # by the old process
        _wait(begin)
    while cell.listed() != count:
        _wait(begin)
    seconds = time.perf_counter() - begin
    cell.until(lambda: cell.all_ready("control", 1), "control", 60)
    cell.wait_calm()
    say(f"sleeping: control was away for {seconds:.2f} s")
    return seconds


def _wait(begin: float) -> None:
    if time.perf_counter() - begin > LONGEST:
        raise MeasurementFailed(f"control has not ended, or does not list all functions, within {LONGEST:.0f} s")
    time.sleep(POLL)


def _kill_control(cell: Cell) -> None:
    for pid in node.container_processes(cell.folders("control")):
        os.kill(pid, signal.SIGKILL)


def delete_control(cell: Cell) -> None:
    (name,) = cell.names("control")
    kubectl("delete", "pod", name, "-n", cell.system_namespace, "--wait=false")


MEASUREMENT = CellMeasurement("sleeping", (OBJECTS, REQUESTS, DEPLOY, DEPLOY_API, KILLED, DELETED, LIST), measure)
