"""A platform with the functions that the matrix calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rescoldo.node.instances import notes
from rescoldo.node.instances.notes import Note
from support.live import Live, alive

CODE = """
import asyncio, os

if "BROKEN" in os.environ:
    raise RuntimeError("this revision is broken")
SECONDS = {"/slow": 0.1, "/slower": 0.5}

async def handle(event, context):
    if event.path in SECONDS:
        await asyncio.sleep(SECONDS[event.path])
    return os.environ.get("VERSION", "")
"""
IMAGE = "matrix:test"
WARM = tuple(f"warm-{number}" for number in range(4))
VICTIM = WARM[0]
COLD = tuple(f"cold-{number}" for number in range(24))
ASLEEP = "asleep"  # called cold after each fault
DEPLOYED = tuple(f"deployed-{number}" for number in range(2))
AGAIN = "deployed-again"  # deployed after each fault
NEVER, SOON = "1h", "300ms"  # idle windows
SCALED = "scaled"  # changes between one instance and several
GROWS, SHRINKS = "grows", "shrinks"  # get more or fewer instances while a part is struck
ROLLED = "rolled"  # called while it gets new revisions
SPLIT = "split"  # two revisions share its calls
HALVES = {"1": 50, "2": 50}
ROLLED_BACK = "rolled-back"  # alternates between its first two revisions
REVISIONS = ("0", "1")  # versions of these two revisions, for both functions
SHORT_WINDOW = {"rescoldo.dev/window": "6s"}  # the shortest: surplus instances stop this long after a panic
MANY = 4  # maximum instances of each of these functions


@dataclass
class World:
    """The platform and its functions; `versions` holds the last acknowledged version of each function."""

    live: Live
    versions: dict[str, int] = field(default_factory=dict)

    def prepare(self) -> None:
        """Deploy all functions."""
        self.live.upload(IMAGE, CODE)
        for name in (*WARM, *COLD, ASLEEP, *DEPLOYED, AGAIN, GROWS, SHRINKS, ROLLED, SCALED):
            self.live.deploy(name, image=IMAGE, **spec(name, 0))
        for name in (SPLIT, ROLLED_BACK):
            for version in REVISIONS:
                self.live.deploy(name, image=IMAGE, **spec(name, int(version)))
            self.live.sleep(name)

    def settle(self) -> None:
        """Wait for the state before a fault: warm functions awake, the others asleep."""
        for name in WARM:
            self.live.until(lambda name=name: self.live.invoke(name).status == 200, f"{name} to be awake")  # type: ignore[misc]
        self.live.until(lambda: not self.awake() & {*COLD, ASLEEP, SCALED}, "the others to sleep")

    def settle_to_change(self) -> None:
        """Also wait until the functions that grow, shrink and get revisions have their initial instances."""
        self.settle()
        for name, count in ((GROWS, 1), (SHRINKS, MANY), (ROLLED, 1)):
            self.scale(name, count)
            self.live.until(lambda name=name, count=count: len(self.notes(name)) == count, f"{count} of {name}")  # type: ignore[misc]

    def settle_to_share(self) -> None:
        """Also split one function's traffic in halves between two revisions, and wait until both are awake."""
        self.settle()
        for name in (GROWS, SHRINKS, ROLLED):
            self.live.sleep(name)
        self.live.until(lambda: self.live.invoke(ROLLED_BACK).status == 200, f"{ROLLED_BACK} to be awake")
        answer = self.live.system("PUT", f"/function/{SPLIT}/traffic", {"traffic": HALVES})
        assert answer.status == 202, answer.text
        seen: set[str] = set()
        self.live.until(lambda: seen.add(self.live.invoke(SPLIT).text) or seen >= {*REVISIONS}, "both revisions")  # type: ignore[func-returns-value]

    def scale(self, name: str, count: int) -> None:
        """Scale like `rescoldo scale`."""
        answer = self.live.system("POST", f"/scale-function/{name}", {"serviceName": name, "replicas": count})
        assert answer.status == 202, answer.text

    def awake(self) -> set[str]:
        """Return the names of functions with instances."""
        functions = json.loads(self.live.system("GET", "/functions").text)
        return {function["name"] for function in functions if function["availableReplicas"]}

    def instances(self, function: str | None = None) -> list[int]:
        """Return the pids of the processes that serve `function`, or any function."""
        return [note.pid for note in self.notes(function) if note.ready and alive(note.pid)]

    def notes(self, function: str | None = None) -> list[Note]:
        """Return the node's notes on instances of `function`, or of any function, including starting and ending
        instances."""
        found = [note for _, note in notes.read_all(self.live.settings.instance_state) if note is not None]
        return [note for note in found if function in (None, note.launch.function.partition(".")[0])]


@contextmanager
def prepared() -> Iterator[World]:
    """Run a platform with all functions deployed."""
    with Live() as live:
        world = World(live)
        world.prepare()
        yield world


def spec(name: str, version: int, *, broken: bool = False) -> dict[str, Any]:
    """Return the deployment of a function of the matrix, without name and image."""
    window = NEVER if name in (*WARM, GROWS, SHRINKS, ROLLED, SPLIT, ROLLED_BACK) else SOON
    scaling = {
        GROWS: {"rescoldo.dev/concurrency": "1", "rescoldo.dev/max-scale": str(MANY), **SHORT_WINDOW},
        SHRINKS: {"rescoldo.dev/concurrency": "100", **SHORT_WINDOW},
    }
    env = {"VERSION": str(version), **({"BROKEN": "1"} if broken else {})}
    return {"annotations": {"rescoldo.dev/idle-window": window, **scaling.get(name, {})}, "envVars": env}
