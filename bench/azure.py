"""Plays a part of the Azure Functions trace, compressed in time, on live processes."""

from __future__ import annotations

from paths import BENCH
from processes import platform_cpu_seconds
from rescoldo.replay.outcome import Setting
from rescoldo.replay.platform import Target
from rescoldo.replay.play import SPEED, play
from rescoldo.replay.trace import part, read_trace
from rows import Bar, Measurement, Row, say
from support.live import Live

ABOUT = f"Azure trace, 500 functions, time compressed {SPEED:g} ×"
FAILED = Bar(f"{ABOUT}, failed calls", "", most=0)
MEMORY = Bar(f"{ABOUT}, idle window 10 s: warm memory of always-on", "%", most=16)
COLD = Bar(f"{ABOUT}, idle window 10 s: cold calls", "%")
ADDED = Bar(f"{ABOUT}: p99 of what calls waited beyond their own run", "ms")


def measure(quick: bool) -> list[Row]:
    first, minutes = (517, 3) if quick else (480, 30)  # simulated: 12.2 % of the 3 min, 13.9 of the 30
    trace = part(read_trace(BENCH / "azure500"), first=first, minutes=minutes)
    with Live() as live:
        target = Target(f"http://127.0.0.1:{live.port}", live.authorization()["Authorization"])
        before = platform_cpu_seconds(live)
        outcome = play(trace, Setting(), target, say=lambda line: say(f"azure: {line}"))
        cpu = platform_cpu_seconds(live) - before
    p50, p99, most = (seconds * 1000 for seconds in outcome.delays.at(50, 99, 100))
    late = outcome.late.at(99)[0] * 1000 if outcome.late is not None else 0.0
    failures = "".join(f"; {count} x {why}" for why, count in outcome.failures.most_common(3))
    counted = f"{outcome.calls:,} calls, {outcome.cold:,} cold, {cpu:.0f} s of cpu of the platform"
    how = f"{minutes} minutes of the trace from minute {first} on, {counted}"
    return [
        FAILED.row(outcome.failed, f"{how}{failures}"),
        MEMORY.row(
            outcome.warm_share,
            f"instance seconds as the platform counts them × the memory in the trace; {how}",
        ),
        COLD.row(outcome.cold_share, how),
        ADDED.row(p99, f"p50 {p50:.1f}, slowest {most:.0f} ms; p99 of how late calls were sent {late:.1f} ms; {how}"),
    ]


MEASUREMENT = Measurement("azure", (FAILED, MEMORY, COLD, ADDED), measure)
