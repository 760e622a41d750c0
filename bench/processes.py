"""CPU time of processes, and which processes a platform consists of."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from rows import MeasurementFailed
from support.live import PATIENCE, Live, children_of, comm

TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds
CALM_SECONDS = 0.3
SPARE = "rescoldo-spare"  # the zygote's forks that are no function yet


def cpu_seconds(pid: int, *, reaped: bool = False) -> float:
    """User and system time of a process so far; with `reaped` also that of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    # fields 14 to 17 of proc_pid_stat(5): utime, stime, cutime, cstime; `fields` begins with the third
    return sum(int(ticks) for ticks in fields[11 : 15 if reaped else 13]) * TICK


def machine_busy_seconds() -> float:
    """Time that all cores together spent on work since boot."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) * TICK  # all but idle and iowait


def descendants(pid: int) -> list[int]:
    """Children, their children and so on."""
    try:
        children = children_of(pid)
    except OSError:  # it has ended meanwhile
        return []
    return [found for child in children for found in (child, *descendants(child))]


def watchers(live: Live) -> tuple[int, int]:
    """The guardian and the supervisor."""
    return live.pid("guardian"), live.pid("supervisor")


def instance_pids(live: Live) -> list[int]:
    """Processes of awake instances: all below the zygote but the forks it keeps ready."""
    return [pid for pid in descendants(live.pid("zygote")) if comm(pid) != SPARE]


def named(live: Live) -> dict[int, str]:
    """Every process of the platform but guardian and supervisor, and what it is."""
    names = {live.pid(name): name for name in ("edge", "controller", "node", "zygote")}
    guardian, supervisor = watchers(live)
    return {pid: names.get(pid, comm(pid)) for pid in descendants(guardian) if pid != supervisor}


def sleep_all(live: Live, names: list[str]) -> None:
    """Put functions to sleep, and wait until their processes are gone and the platform rests."""
    for name in names:
        live.system("POST", f"/scale-function/{name}", {"serviceName": name, "replicas": 0})
    live.until(lambda: not live.instances() and not instance_pids(live), "all functions to sleep", seconds=60.0)
    wait_calm(live)


def wait_calm(live: Live) -> None:
    """Return once the platform has used less than a tenth of a core for CALM_SECONDS."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        before, begin = platform_cpu_seconds(live), time.monotonic()
        time.sleep(CALM_SECONDS)  # the span that is looked at
        if platform_cpu_seconds(live) - before < 0.1 * (time.monotonic() - begin):
            return
    raise MeasurementFailed("the platform does not come to rest although nothing calls it")


def platform_cpu_seconds(live: Live) -> float:
    """Of all processes so far, those that have ended included: what comes and goes counts too."""
    total = 0.0
    for pid in (*watchers(live), *named(live)):
        with suppress(OSError):  # it has ended meanwhile, and counts among its parent's
            total += cpu_seconds(pid, reaped=True)
    return total
