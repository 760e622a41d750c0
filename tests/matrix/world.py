"""A platform with the functions the matrix calls."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from live import Live, alive
from rescoldo.node import notes

CODE = """
import asyncio, os

async def handle(event, context):
    if event.path == "/slow":
        await asyncio.sleep(0.1)
    return os.environ.get("VERSION", "")
"""
IMAGE = "matrix:test"
WARM = tuple(f"warm-{number}" for number in range(4))
VICTIM = WARM[0]
COLD = tuple(f"cold-{number}" for number in range(24))
ASLEEP = "asleep"  # called cold after each fault
DEPLOYED = tuple(f"deployed-{number}" for number in range(2))
SCALED = "scaled"  # has one instance or several, again and again
AGAIN = "deployed-again"  # deployed after each fault
NEVER, SOON = "1h", "300ms"  # idle windows


@dataclass
class World:
    """`versions` is the last deployment of each function that was acknowledged."""

    live: Live
    versions: dict[str, int] = field(default_factory=dict)

    def prepare(self) -> None:
        """Deploy everything."""
        self.live.upload(IMAGE, CODE)
        for name in (*WARM, *COLD, ASLEEP, *DEPLOYED, SCALED, AGAIN):
            self.live.deploy(name, image=IMAGE, **spec(name, 0))

    def settle(self) -> None:
        """Wait until all is as it should be before a fault: warm functions awake, the others asleep."""
        for name in WARM:
            self.live.until(lambda name=name: self.live.invoke(name).status == 200, f"{name} to be awake")  # type: ignore[misc]
        self.live.until(lambda: not self.awake() & {*COLD, ASLEEP, SCALED}, "the others to sleep")

    def awake(self) -> set[str]:
        """Names of functions that have instances."""
        functions = json.loads(self.live.system("GET", "/functions").text)
        return {function["name"] for function in functions if function["availableReplicas"]}

    def instances(self, function: str | None = None) -> list[int]:
        """Pids of the processes that serve `function`, or any."""
        found = [note for _, note in notes.read_all(self.live.settings.instance_state) if note is not None]
        return [
            note.pid
            for note in found
            if note.ready and alive(note.pid) and function in (None, note.launch.function.partition(".")[0])
        ]


def spec(name: str, version: int) -> dict[str, Any]:
    """What a function of the matrix is deployed with, but for name and image."""
    window = NEVER if name in WARM else SOON
    return {"annotations": {"rescoldo.dev/idle-window": window}, "envVars": {"VERSION": str(version)}}
