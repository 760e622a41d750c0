"""Measures the CPU time of processes, and lists a platform's processes."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from rows import MeasurementFailed
from support.gateway import PATIENCE
from support.live import Live, children_of, comm

TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds
CALM_SECONDS = 0.3
SPARE = "rescoldo-spare"  # forks of the zygote that wait for a function


def cpu_seconds(pid: int, *, reaped: bool = False) -> float:
    """Return a process's user and system time so far in seconds; with `reaped` including its ended children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    # fields 14 to 17 of proc_pid_stat(5) are utime, stime, cutime and cstime; `fields` begins with field 3
    return sum(int(ticks) for ticks in fields[11 : 15 if reaped else 13]) * TICK


def machine_busy_seconds() -> float:
    """Return the seconds of work on all cores together since boot."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) * TICK  # all but idle and iowait


def descendants(pid: int) -> list[int]:
    """Return a process's children, their children and so on."""
    try:
        children = children_of(pid)
    except OSError:  # the process has ended
        return []
    return [found for child in children for found in (child, *descendants(child))]


def watchers(live: Live) -> tuple[int, int]:
    """Return the pids of guardian and supervisor."""
    return live.pid("guardian"), live.pid("supervisor")


def instance_pids(live: Live) -> list[int]:
    """Return the processes of awake instances: the zygote's descendants except its spares."""
    return [pid for pid in descendants(live.pid("zygote")) if comm(pid) != SPARE]


def named(live: Live) -> dict[int, str]:
    """Return the name of every process of the platform except guardian and supervisor."""
    names = {live.pid(name): name for name in ("edge", "controller", "node", "zygote")}
    guardian, supervisor = watchers(live)
    return {pid: names.get(pid, comm(pid)) for pid in descendants(guardian) if pid != supervisor}


def sleep_all(live: Live, names: list[str]) -> None:
    """Put functions to sleep; wait until their processes are gone and the platform is calm."""
    for name in names:
        live.system("POST", f"/scale-function/{name}", {"serviceName": name, "replicas": 0})
    live.until(lambda: not live.instances() and not instance_pids(live), "all functions to sleep", seconds=60.0)
    wait_calm(live)


def wait_calm(live: Live) -> None:
    """Wait until the platform uses less than a tenth of a core for CALM_SECONDS."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        before, begin = platform_cpu_seconds(live), time.monotonic()
        time.sleep(CALM_SECONDS)  # the observed span
        if platform_cpu_seconds(live) - before < 0.1 * (time.monotonic() - begin):
            return
    raise MeasurementFailed("the platform does not come to rest although nothing calls it")


def platform_cpu_seconds(live: Live) -> float:
    """Return the CPU seconds of all processes so far. Ended processes count too, since short-lived ones also cost."""
    total = 0.0
    for pid in (*watchers(live), *named(live)):
        with suppress(OSError):  # the process has ended, and its parent's time includes it
            total += cpu_seconds(pid, reaped=True)
    return total
