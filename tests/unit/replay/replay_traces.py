"""Hand-made traces, and their files."""

from __future__ import annotations

from pathlib import Path

from rescoldo.replay.trace import DURATIONS, TracedFunction

STEADY = (1.0,) * 7  # every call runs for a second


def traced(*calls: int, name: str = "f000", memory: float = 100.0, runs: tuple[float, ...] = STEADY) -> TracedFunction:
    return TracedFunction(name, f"key-{name}", memory, runs, calls)


def write_trace(
    folder: Path,
    invocations: str = "HashFunction,Trigger,480,481\naa,http,3,0\nbb,timer,0,1\n",
    durations: str = "",
    memory: str = "HashFunction,AverageAllocatedMb\nbb,10\naa,170.5\n",
) -> Path:
    """Write the three files; by default each call runs from 1 to 7 ms."""
    (folder / "invocations.csv").write_text(invocations)
    head = f"HashFunction,{','.join(DURATIONS)}\n"
    (folder / "durations.csv").write_text(durations or f"{head}aa,1,2,3,4,5,6,7\nbb,1,1,1,1,1,1,1\n")
    (folder / "memory.csv").write_text(memory)
    return folder
