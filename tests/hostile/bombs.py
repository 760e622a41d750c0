"""Functions that take more than their share. Each is a function of its own with limits, beside the victim."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hostile.function.kit import ATTACKS as BY_FUNCTIONS
from hostile.suite import OTHERS, Attack, take
from hostile.world import Outcome, World
from rescoldo.isolation.cgroups import MOST_PIDS
from support.live import alive

MEMORY = 160  # MiB
CPUS = 0.2
_SPEC: dict[str, Any] = {"limits": {"memory": f"{MEMORY}Mi"}}

Check = Callable[[World, str, Outcome], None]  # called with the attacking function's name


def _bomb(name: str, check: Check | None = None, **spec: Any) -> None:
    """Register the function's attack `name`: deploy a function with `spec`, attack, judge by `check` and remove the
    function."""
    made = BY_FUNCTIONS[name]

    def run(world: World, outcome: Outcome) -> None:
        function = f"bomb-{name.replace('_', '-')}"
        world.deploy(function, world.attackers_files(), **{**_SPEC, **spec})
        more = {"most_processes": MOST_PIDS, "cpus": CPUS, "memory": MEMORY * 2**20, "orphan_name": function[:15]}
        answer = world.attack(name, function, timeout=90, **more)
        if answer.status == 200:
            take(outcome, answer.text)
        else:  # an instance ends for lack of memory, which processes and files in memory need, too, or of processes
            _is_reported_as_over_a_limit(world, function, outcome)
        if check is not None:
            check(world, function, outcome)
        _remove(world, function, outcome)

    OTHERS.append(Attack(name, made.what, made.group, made.unprivileged, run))


def _remove(world: World, function: str, outcome: Outcome) -> None:
    """Remove the function and check that no process of it or of its children remains."""
    world.live.sleep(function)
    world.live.system("DELETE", "/functions", {"functionName": function})
    left = _left(world, function)
    outcome.judge("outlives its function", not left, left)


def _left(world: World, function: str) -> list[int]:
    """Return the processes that still have the function's name some time after its stop."""
    noted = f"{function[:20].rstrip('-')}-"  # the beginning of its instances' names

    def named() -> list[int]:
        return [pid for pid in _processes() if _comm(pid) == function[:15]]

    def is_over() -> bool:  # between an instance's end and its replacement there is a note without a process
        notes = world.live.settings.instance_state.iterdir()
        return not any(note.name.startswith(noted) for note in notes) and not named()

    with suppress(AssertionError):
        world.live.until(is_over, f"the processes of {function} to end")
    return named()


def _processes() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit() and alive(int(folder.name))]


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _is_reported_as_over_a_limit(world: World, function: str, outcome: Outcome) -> None:
    def reported() -> bool:
        log = world.live.function_log(function)
        return "out of memory" in log or f"more than {MOST_PIDS} processes" in log

    world.live.until(reported, f"{function} to be reported as over a limit")
    outcome.judge("ends without a reported reason", reported(), world.live.function_log(function)[-400:])


def _log_is_bounded(world: World, function: str, outcome: Outcome) -> None:
    size = sum(file.stat().st_size for file in world.live.settings.logs.glob(f"{function}.*"))
    outcome.judge("fills the disk with its log", size < 4 * 2**20, f"{size} bytes")


def _bombed_scratch_only(world: World, function: str, outcome: Outcome) -> None:
    """Check that the machine's folders of the same names contain none of the function's files."""
    left = [path for folder in ("/tmp", "/var/tmp", "/dev/shm") for path in Path(folder).glob("fill")]
    outcome.judge("fills the machine's folders", not left, left)


def _is_killed_in_the_end(world: World, function: str, outcome: Outcome) -> None:
    """Check that the function is asleep within its grace period, whether or not it handles signals."""
    world.live.sleep(function)
    left = _left(world, function)
    outcome.judge("goes on after the order to end", not left, left)
    for pid in left:
        os.kill(pid, signal.SIGKILL)


_GRACE = {"annotations": {"rescoldo.dev/idle-window": "1h", "rescoldo.dev/grace": "200ms"}}
_bomb("fork_bomb")
_bomb("thread_bomb")
_bomb("memory_heap")
_bomb("memory_shared")
_bomb("memory_files")
_bomb("memory_children")
_bomb("disk_fill", _bombed_scratch_only)
_bomb("inodes")
_bomb("descriptor_bomb")
_bomb("log_flood", _log_is_bounded)
_bomb("processor_hog", limits={"memory": f"{MEMORY}Mi", "cpu": f"{int(CPUS * 1000)}m"})
_bomb("orphan", _is_killed_in_the_end, **_GRACE)
_bomb("deaf", _is_killed_in_the_end, **_GRACE)
