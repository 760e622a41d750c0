"""Measures the platform's memory and CPU while no function is awake, and the memory of an awake instance."""

from __future__ import annotations

import statistics
import time
from collections import Counter

from client import get_ok
from processes import instance_pids, named, platform_cpu_seconds, sleep_all, wait_calm, watchers
from rows import Bar, Measurement, Row, say
from support.gateway import HELLO
from support.live import Live, pss

FUNCTIONS = 20
SPAN = 20.0  # seconds of observed rest

MEMORY = Bar("platform at rest, nothing awake: edge + controller + node + zygote, PSS", "MB", most=150.0)
CPU = Bar("platform at rest, nothing awake: CPU", "% of a core", most=1.0)
SUPERVISOR = Bar("platform at rest: its supervisor and guardian, PSS", "MB")
INSTANCE = Bar("one awake instance of a trivial function, PSS", "MB", most=9.0)
ALONE = Bar("one awake instance of a trivial function, the only one awake, PSS", "MB")


def measure(quick: bool) -> list[Row]:
    """Measure rest after work: every function was called once and sleeps again."""
    span = SPAN / 2 if quick else 2 * SPAN
    with Live(spares_memory=0) as live:  # the state five minutes after the last burst of wakes
        names = deploy(live)
        for name in names:
            get_ok(live.port, f"/function/{name}")
        sleep_all(live, names)
        say(f"rest: watching for {span:g} s")
        before, begin = platform_cpu_seconds(live), time.monotonic()
        time.sleep(span)  # the measurement: nothing happens
        cpu = 100 * (platform_cpu_seconds(live) - before) / (time.monotonic() - begin)
        sizes = Counter[str]()
        for pid, name in named(live).items():
            sizes[name] += pss(pid)
        guardian, supervisor = (pss(pid) / 1e6 for pid in watchers(live))
    parts = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in sizes.most_common())
    state = f"{FUNCTIONS} functions deployed, called once, asleep; six spares"
    return [
        MEMORY.row(sum(sizes.values()) / 1e6, f"{parts} MB (1 MB = 10⁶ bytes); {state}"),
        CPU.row(cpu, f"all processes of the platform, supervisor and guardian too, over {span:g} s; {state}"),
        SUPERVISOR.row(
            guardian + supervisor,
            f"supervisor {supervisor:.1f}, guardian {guardian:.1f} MB; not among the figures above",
        ),
    ]


def measure_instance(_: bool) -> list[Row]:
    with Live() as live:
        names = deploy(live)
        get_ok(live.port, f"/function/{names[0]}")
        wait_calm(live)
        alone = [pss(pid) / 1e6 for pid in instance_pids(live)]
        for name in names:
            get_ok(live.port, f"/function/{name}")
        wait_calm(live)
        awake = [pss(pid) / 1e6 for pid in instance_pids(live)]
    say(f"instance: {statistics.median(awake):.1f} MB of {len(awake)}, {alone} MB alone")
    return [
        INSTANCE.row(
            statistics.median(awake),
            f"median of {len(awake)} awake ones ({min(awake):.1f} to {max(awake):.1f} MB), each called once; all share "
            "the pages of one zygote and its spares",
        ),
        ALONE.row(sum(alone), f"{len(alone)} process; it shares pages with the zygote and its spares only"),
    ]


def deploy(live: Live) -> list[str]:
    names = [f"rest-{number}" for number in range(FUNCTIONS)]
    live.upload("rest:bench", HELLO)
    for name in names:
        live.deploy(name, image="rest:bench", labels={"com.openfaas.scale.zero-duration": "10m"})
    return names


MEASUREMENTS = (
    Measurement("rest", (MEMORY, CPU, SUPERVISOR), measure),
    Measurement("instance", (INSTANCE, ALONE), measure_instance),
)
