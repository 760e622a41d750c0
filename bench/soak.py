"""Runs a long mix of everything: counts failures without an explanation, and growth."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wrk
from client import run_client
from processes import descendants, sleep_all, watchers
from rows import Bar, Measurement, Row, say
from support.leftovers import cgroups
from support.live import Live

# the response names function, version and instance; it takes long enough for a kill to hit it
CODE = """
import asyncio, os, secrets

INSTANCE = secrets.token_hex(8)

async def handle(event, context):
    if event.path != "/quick":
        await asyncio.sleep(0.03)
    return f"{os.environ['WHO']} {os.environ.get('VERSION', 0)} {INSTANCE}"
"""
IMAGE = "soak:bench"
WINDOW = "300ms"
GROUPS = {"steady": 16, "changed": 6, "struck": 6, "comers": 3}
LOG_LINES = 200_000  # calls: more than fit into the edge's ring of log lines (8 MiB, measured: 50 bytes a call)
SETTLE = 60.0  # seconds for the platform to release what the load needed
PARTS = ("edge", "controller", "node", "zygote")

ERRORS = Bar("soak: failed calls, deployments and removals that no kill explains", "", most=0)
EXPLAINED = Bar("soak: calls that failed in a killed instance", "")
MEMORY = Bar("soak: growth of the platform's memory", "MB", most=5)
COUNTS = Bar("soak: growth of descriptors, cgroups, mounts, processes and files of the run folder", "", most=0)


@dataclass(frozen=True, slots=True)
class Held:
    """Resources that a platform at rest holds."""

    memory: dict[str, int]  # bytes of anonymous memory, by process
    counts: dict[str, int]


def measure(quick: bool) -> list[Row]:
    """Run two parts: the first fills caches and pools, the second shows growth."""
    first, second = (10, 30) if quick else (240, 1200)
    names = {group: [f"{group}-{number}" for number in range(count)] for group, count in GROUPS.items()}
    # spares grow with bursts and shrink only minutes later, which would look like growth
    with Live(spares_memory=0) as live:
        called = [name for group in ("steady", "changed", "struck") for name in names[group]]
        live.upload(IMAGE, CODE)
        for name in called:
            live.deploy(name, image=IMAGE, envVars={"WHO": name}, annotations={"rescoldo.dev/idle-window": WINDOW})
        _fill_log(live, called[0])
        _mix(live, names, first, 1)
        before = _held(live, called)
        seen = _mix(live, names, second, 2)
        after = _held(live, called, before.counts)
    grown = {name: (after.memory[name] - size) / 1e6 for name, size in before.memory.items()}
    more = {name: after.counts[name] - count for name, count in before.counts.items()}
    did = ", ".join(f"{seen[key]:,} {key}" for key in ("calls", "starts", "deploys", "removes", "sleeps", "kills"))
    how = f"{second} s after {first} s that are not counted: {did}"
    errors = f"; the first: {seen['errors'][0]}" if seen["errors"] else ""
    return [
        ERRORS.row(seen["error_count"], how + errors),
        EXPLAINED.row(seen["explained"], f"of {seen['kills']} killed instances"),
        MEMORY.row(
            sum(grown.values()),
            "anonymous memory at rest, asleep: " + ", ".join(f"{name} {size:+.1f}" for name, size in grown.items())
            + f" MB of {sum(before.memory.values()) / 1e6:.0f}",
        ),
        COUNTS.row(
            sum(max(0, count) for count in more.values()),
            ", ".join(f"{name} {before.counts[name]} {count:+d}" for name, count in more.items()),
        ),
    ]  # fmt: skip


def _fill_log(live: Live, name: str) -> None:
    """Fill the edge's ring of log lines: it keeps every page that ever held a line, so a full ring grows no more."""
    left = LOG_LINES
    while left > 0:
        left -= wrk.run(f"http://127.0.0.1:{live.port}/function/{name}/quick", 2, 32).requests


def _mix(live: Live, names: dict[str, list[str]], seconds: int, seed: int) -> dict[str, Any]:
    headers = "".join(f"{name}: {value}\r\n" for name, value in live.authorization().items())
    asked = {
        "port": live.port, "image": IMAGE, "window": WINDOW, "headers": headers, "seconds": seconds, "seed": seed,
        "notes": str(live.settings.instance_state), **names,
    }  # fmt: skip
    seen = run_client("soak_client.py", asked, seconds + 120)
    say(f"soak: {seconds} s: {seen}")
    return seen


def _held(live: Live, names: list[str], goal: dict[str, int] | None = None) -> Held:
    """Return what the platform holds while all functions sleep; with a `goal` wait up to SETTLE s for counts that
    meet it."""
    sleep_all(live, names)
    deadline = time.monotonic() + SETTLE
    counts = _counts(live)
    while goal is not None and any(count > goal[name] for name, count in counts.items()):
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
        counts = _counts(live)
    guardian, supervisor = watchers(live)
    pids = {"guardian": guardian, "supervisor": supervisor, **{name: live.pid(name) for name in PARTS}}
    held = Held({name: _anonymous(pid) for name, pid in pids.items()}, counts)
    say(f"soak: holds {held}")
    return held


def _counts(live: Live) -> dict[str, int]:
    ours = (*watchers(live), *(live.pid(name) for name in PARTS))
    return {
        "descriptors": sum(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()) for pid in ours),
        "cgroups": sum(_folders(path) for path in cgroups() if live.settings.run_path.name in path),
        # the machine's mounts, and those of the namespaces that instances copy
        "mounts": sum(_lines(f"/proc/{pid}/mountinfo") for pid in ("self", live.pid("node"), live.pid("zygote"))),
        "processes": len(descendants(live.pid("guardian"))),
        "files": sum(1 for _ in live.settings.run_path.rglob("*")),
    }


def _folders(path: str) -> int:
    """Count a cgroup and all cgroups below it."""
    return sum(1 for _ in os.walk(path))


def _lines(file: str) -> int:
    return Path(file).read_text().count("\n")


def _anonymous(pid: int) -> int:
    """Return the bytes of a process's anonymous memory, including pages that it shares with its forks."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


MEASUREMENT = Measurement("soak", (ERRORS, EXPLAINED, MEMORY, COUNTS), measure, ("wrk",))
