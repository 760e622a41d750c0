"""Makes warm calls while a test does something else, and reports a fault's effect on them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from matrix.load import STEADY, Load
from matrix.world import World

PATIENCE = 60.0


@dataclass(frozen=True)
class FaultResult:
    """The effect of a fault; times in seconds."""

    fault: str
    refused: str  # the operation that fails during the fault, and its error
    requests: int  # warm calls to other functions
    failed: int
    stall: float  # the longest warm call
    well_after: float | None  # from the end of the cause until the refused operation works


class Calling:
    """Makes load from a thread while the context is entered: the steady load, or what `start` starts."""

    def __init__(self, world: World, start: Callable[[Load], Coroutine[Any, Any, None]] | None = None) -> None:
        self.load = Load(world)
        self._start = start or (lambda load: load.start(STEADY))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="calling")
        self._well_after: float | None = None

    def __enter__(self) -> Calling:
        self._thread.start()
        self._run(self._start(self.load))
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self.load.more(50))
        self._run(self.load.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def more(self, count: int) -> None:
        """Wait for `count` more calls."""
        self._run(self.load.more(count))

    @property
    def failures(self) -> list[str]:
        return [str(call) for call in self.load.calls if call.failed]

    def result(self, fault: str, refused: str, well_after: float | None = None) -> FaultResult:
        calls = [call for call in self.load.calls if call.end]
        stall = max(call.end - call.begin for call in calls if call.kind == "warm")
        return FaultResult(fault, refused, len(calls), len(self.failures), round(stall, 3), well_after)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)


class Stopwatch:
    """Measures the seconds since its creation."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._begin, 3)
