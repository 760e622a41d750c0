"""Measures a project of nine functions, two with pandas: an unchanged `rescoldo up`, and a saved line of a function
with pandas under `rescoldo watch` until it serves."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client import get_ok
from rows import Bar, Measurement, MeasurementFailed, Row, say
from support.live import SOURCE, Live

REQUIREMENTS = {
    "report": "pandas\n", "tables": "pandas\n", "check": "pydantic\n", "fetch": "httpx\n", "pages": "jinja2\n",
    "hello": "", "echo": "", "sums": "", "dates": "python-dateutil\n",
}  # fmt: skip
SAVED = "report"
IMPORTS = {"report": "pandas", "tables": "pandas", "check": "pydantic", "fetch": "httpx", "pages": "jinja2"}

UNCHANGED = Bar("`rescoldo up` of nine unchanged functions, two of them with pandas", "s", most=1)
LINE = Bar("`rescoldo watch`: a saved line of a function with pandas, until it serves, p50", "s", most=0.5)
FIRST = Bar("`rescoldo up` of the nine, packages installed before, platform empty", "s")


def measure(quick: bool) -> list[Row]:
    rounds = 3 if quick else 9
    with Live() as live:
        project = _write(live.folder / "project")
        first = _up(live, project)  # installs packages that the cache does not have
        say(f"project: first up {first:.1f} s")
    with Live() as live:
        project = _write(live.folder / "project")
        sent = _up(live, project)
        unchanged = [_up(live, project) for _ in range(rounds)]
        say(f"project: sent {sent:.2f} s, unchanged {statistics.median(unchanged):.2f} s")
        saved = _watch(live, project, rounds)
        say(f"project: a saved line {statistics.median(saved):.2f} s")
    how = f"median of {rounds}"
    return [
        UNCHANGED.row(statistics.median(unchanged), f"the whole command, {how}; {min(unchanged):.2f} to {max(unchanged):.2f} s"),  # noqa: E501
        LINE.row(statistics.median(saved), f"as `watch` reports it, {how}; {min(saved):.2f} to {max(saved):.2f} s; import included"),  # noqa: E501
        FIRST.row(sent, "each layer is sent and unpacked once; one run"),
    ]


def _write(project: Path) -> Path:
    """Write the project's files."""
    functions = []
    for name, requirements in REQUIREMENTS.items():
        folder = project / name
        folder.mkdir(parents=True)
        (folder / "requirements.txt").write_text(requirements)
        (folder / "handler.py").write_text(_code(name, 0))
        functions.append(f"  {name}:\n    lang: python3-http\n    handler: ./{name}\n    image: {name}:bench\n")
    text = "version: 1.0\nprovider:\n  name: openfaas\nfunctions:\n" + "".join(functions)
    (project / "stack.yaml").write_text(text)
    return project


def _code(name: str, number: int) -> str:
    imported = f"import {IMPORTS[name]}\n\n" if name in IMPORTS else ""
    return f"{imported}def handle(event, context):\n    return '{number}'\n"


def _command(live: Live, *words: str) -> list[str]:
    url = f"http://127.0.0.1:{live.port}"
    return [sys.executable, "-m", "rescoldo.cli", *words, "--gateway", url, "--data", live.settings.data]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCE)}


def _up(live: Live, project: Path) -> float:
    """Return the seconds of the whole command."""
    begin = time.monotonic()
    done = subprocess.run(_command(live, "up"), cwd=project, env=_environment(), capture_output=True, text=True)
    if done.returncode:
        raise MeasurementFailed(done.stderr.strip().rpartition("\n")[2])
    return time.monotonic() - begin


def _watch(live: Live, project: Path, rounds: int) -> list[float]:
    """Return the seconds from each save until the new code serves."""
    times = []
    with _watching(live, project) as events:
        for event in events:
            if event["event"] == "watching":
                break
        for number in range(1, rounds + 1):
            (project / SAVED / "handler.py").write_text(_code(SAVED, number))
            event = next(events)
            if event["event"] != "deployed":
                raise MeasurementFailed(str(event))
            if (answer := get_ok(live.port, f"/function/{SAVED}").body.decode()) != str(number):
                raise MeasurementFailed(f"{answer!r} answered and not {number}")
            times.append(float(str(event["seconds"])))
    return times


@contextmanager
def _watching(live: Live, project: Path) -> Iterator[Iterator[dict[str, object]]]:
    command = _command(live, "watch", "--json")
    with subprocess.Popen(command, cwd=project, env=_environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield (json.loads(line) for line in process.stdout)
        finally:
            process.send_signal(signal.SIGINT)


MEASUREMENT = Measurement("project", (UNCHANGED, LINE, FIRST), measure)
