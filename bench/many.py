"""Measures ten thousand sleeping functions: their memory and time, and whether ten of them wake as fast as before.
Then measures the history of many revisions."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from pathlib import Path

from client import get_ok
from cold import cold_call
from processes import sleep_all, wait_calm
from rows import Bar, Measurement, MeasurementFailed, Row, quantile, say
from support.gateway import HELLO
from support.live import Live, pss

FUNCTIONS = 10_000
QUICK_FUNCTIONS = 2_000  # for the quick form, whose figures do not compare with the long form's
FEW = 10  # woken before and after the others are deployed
REVISED, REVISIONS = 2000, 10  # functions that get revisions, and how many revisions
IMAGE = "many:bench"
PARTS = ("edge", "controller", "node")

ABOUT = f"{FUNCTIONS:,} sleeping functions"
GROWTH = Bar(f"{ABOUT}: growth of edge + controller + node, PSS", "MB", most=80)
LIST = Bar(f"{ABOUT}: list", "s", most=1)
DEPLOY = Bar(f"{ABOUT}: deployed in bulk by `rescoldo deploy --no-start`", "functions/s", least=100)
CONTROLLER = Bar(f"{ABOUT}: controller killed, until a cold call is answered", "s", most=5)
PLATFORM = Bar(f"{ABOUT}: platform started again, until a cold call is answered", "s", most=5)
COLD = Bar(f"{ABOUT}: cold start p50 ÷ that with {FEW}", "", most=1.5)
AGAIN = Bar(f"{ABOUT}: deployed in bulk once more, none changed", "functions/s")
SHOWN = Bar(f"{ABOUT}: `rescoldo list`, the whole command", "s")

HISTORY = f"{ABOUT}, {REVISED:,} of them in {REVISIONS} more revisions"
REVISED_GROWTH = Bar(f"{HISTORY}: growth of edge + controller + node, PSS", "MB")
REVISED_DATABASE = Bar(f"{HISTORY}: the database", "MB")
REVISED_LIST = Bar(f"{HISTORY}: list", "s", most=1)
REVISED_PLATFORM = Bar(f"{HISTORY}: platform started again, until a cold call is answered", "s", most=5)


def measure(quick: bool) -> list[Row]:
    rounds, count = (4, QUICK_FUNCTIONS) if quick else (12, FUNCTIONS)
    names = [f"many-{number}" for number in range(count)]
    with Live() as live:
        live.upload(IMAGE, HELLO)
        for name in names[:FEW]:
            live.deploy(name, image=IMAGE)
        before = _cold(live, names[:FEW], rounds)
        held = _memory(live)
        stack = _stack(live, names)
        first, again = (_deploy(live, stack, count) for _ in range(2))
        lists = [_list(live, count) for _ in range(3)]
        _, shown = _command(live, "list")
        # half of these were deployed before, half of them later
        after = _cold(live, [*names[: FEW // 2], *names[-FEW // 2 :]], rounds)
        grown = {name: size - held[name] for name, size in _memory(live).items()}
        controller = _restart_controller(live, names[count // 2])
        platform = _restart(live, names[count // 3])
        history = [] if quick else _history(live, names[:REVISED])
    ratio = quantile(after, 0.5) / quantile(before, 0.5)
    parts = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in grown.items())
    only = f"{count:,} functions only; " if quick else ""
    how = f"{only}one stack.yaml, --parallel as shipped, {again:.0f}/s when all are deployed once more"
    return [
        GROWTH.row(
            sum(grown.values()) / 1e6, f"{only}{parts} MB (1 MB = 10⁶ bytes), after all work below but the restarts"
        ),
        LIST.row(
            statistics.median(lists), f"{only}GET /system/functions on a connection of its own, whole; median of 3"
        ),
        DEPLOY.row(first, how),
        CONTROLLER.row(controller, f"{only}SIGKILL; the call is made at once and held meanwhile"),
        PLATFORM.row(platform, f"{only}a new start after a whole stop"),
        COLD.row(
            ratio,
            f"{only}{quantile(after, 0.5) * 1000:.2f} against {quantile(before, 0.5) * 1000:.2f} ms, p99 "
            f"{quantile(after, 0.99) * 1000:.1f} against {quantile(before, 0.99) * 1000:.1f} ms, {len(after)} calls "
            "each in one run, one after another",
        ),
        SHOWN.row(shown, f"{only}start of the interpreter included"),
        AGAIN.row(again, f"{only}like a project that is deployed repeatedly"),
        *history,
    ]


def _history(live: Live, names: list[str]) -> list[Row]:
    """Deploy functions repeatedly, each time with another variable, and restart the platform."""
    held, empty = _memory(live), _database(live)
    rates = [_deploy(live, _stack(live, names, f"v{number}"), len(names)) for number in range(REVISIONS)]
    grown = {name: size - held[name] for name, size in _memory(live).items()}
    lists = [_list(live, FUNCTIONS) for _ in range(3)]
    kept = len(json.loads(live.system("GET", f"/function/{names[0]}/revisions").text))
    platform = _restart(live, names[-1])
    parts = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in grown.items())
    total = sum(grown.values()) / 1e6
    return [
        REVISED_GROWTH.row(total, f"{parts} MB more than the platform before; {kept} kept revisions of each"),
        REVISED_DATABASE.row(_database(live) / 1e6, f"{empty / 1e6:.1f} MB before; rescoldo.db after a whole stop"),
        REVISED_LIST.row(statistics.median(lists), "as above"),
        REVISED_PLATFORM.row(platform, f"as above; deployed at {statistics.median(rates):.0f}/s, unchecked"),
    ]


def _database(live: Live) -> int:
    """Return the size of the database file in bytes, without its write-ahead log."""
    return live.settings.database.stat().st_size


def _cold(live: Live, names: list[str], rounds: int) -> list[float]:
    """Return the seconds of cold calls, one for each function in each round. An earlier call of each is not counted."""
    for name in names:
        get_ok(live.port, f"/function/{name}")
    times = []
    for _ in range(rounds):
        sleep_all(live, names)
        times += [cold_call(live, name).seconds for name in names]
    sleep_all(live, names)
    say(f"many: cold p50 {quantile(times, 0.5) * 1000:.2f} ms")
    return times


def _memory(live: Live) -> dict[str, int]:
    wait_calm(live)
    found = {name: pss(live.pid(name)) for name in PARTS}
    say("many: " + ", ".join(f"{name} {size / 1e6:.1f}" for name, size in found.items()) + " MB")
    return found


def _stack(live: Live, names: list[str], version: str = "") -> Path:
    """Write a stack.yaml with all functions, whose image is deployed; another `version` makes other revisions,
    which the platform does not start to check."""
    function = "    lang: python3-http\n    handler: ./many\n    skip_build: true\n"
    if version:
        function += f"    environment:\n      VERSION: {version}\n"
        function += "    annotations:\n      rescoldo.dev/rollout: immediate\n"
    text = "".join(f"  {name}:\n{function}    image: {IMAGE}\n" for name in names)
    path = live.folder / "stack.yaml"
    path.write_text(f"version: 1.0\nprovider:\n  name: openfaas\nfunctions:\n{text}")
    return path


def _deploy(live: Live, stack: Path, count: int) -> float:
    """Deploy with the whole command; return functions/s."""
    deployed, seconds = _command(live, "deploy", "--no-start", "--yaml", str(stack))
    if len(deployed) != count:
        raise MeasurementFailed(f"{len(deployed)} functions were deployed instead of {count}")
    say(f"many: deployed in {seconds:.1f} s")
    return count / seconds


def _list(live: Live, count: int) -> float:
    answer = live.system("GET", "/functions")
    if len(json.loads(answer.text)) != count:
        raise MeasurementFailed(f"the list has {len(json.loads(answer.text))} functions instead of {count}")
    return answer.seconds


def _command(live: Live, *argv: str) -> tuple[list[object], float]:
    """Run a verb; return its JSON output and its seconds."""
    url = f"http://127.0.0.1:{live.port}"
    command = [live.python, "-m", "rescoldo.cli", *argv, "--json", "--gateway", url]
    begin = time.perf_counter()
    done = subprocess.run(
        command, env={**live.environment(), "RESCOLDO_DATA": live.settings.data}, capture_output=True, timeout=300
    )
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise MeasurementFailed(f"rescoldo {argv[0]} failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    return json.loads(done.stdout), seconds


def _restart_controller(live: Live, name: str) -> float:
    begin = time.perf_counter()
    live.kill("controller")
    cold_call(live, name)
    seconds = time.perf_counter() - begin
    say(f"many: controller killed, served after {seconds:.2f} s")
    return seconds


def _restart(live: Live, name: str) -> float:
    live.stop()
    begin = time.perf_counter()
    live.start()
    cold_call(live, name)
    seconds = time.perf_counter() - begin
    say(f"many: platform started again, served after {seconds:.2f} s")
    return seconds


MEASUREMENT = Measurement(
    "many",
    (
        GROWTH, LIST, DEPLOY, CONTROLLER, PLATFORM, COLD, SHOWN, AGAIN,
        REVISED_GROWTH, REVISED_DATABASE, REVISED_LIST, REVISED_PLATFORM,
    ),
    measure,
)  # fmt: skip
