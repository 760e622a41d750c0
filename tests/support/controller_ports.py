"""The small ports of a controller in memory: second implementations, for tests."""

from __future__ import annotations

from collections.abc import Callable

from rescoldo.control.observe.processes import PlatformProcess
from rescoldo.edge.protocol import EdgeState
from rescoldo.model.errors import InvalidInput


class MemoryProcesses:
    """Implements `Processes`: the platform's processes are those that it is given."""

    def __init__(self) -> None:
        self.known: dict[str, PlatformProcess] = {}

    def running(self) -> list[PlatformProcess]:
        return list(self.known.values())


class MemoryReload:
    """Implements `Reload`: notes what was asked for. Whoever plays the next edge calls the last of `states`, as it
    counts as told from then on."""

    def __init__(self) -> None:
        self.answers = True  # whether the supervisor can be asked
        self.slots: list[int] = []  # of each reload that has begun
        self.states: list[Callable[[], EdgeState]] = []  # of the same

    def __call__(self, slots: int, state: Callable[[], EdgeState]) -> bool:
        if self.answers:
            self.slots.append(slots)
            self.states.append(state)
        return self.answers


class MemoryCertificate:
    """Its method `renew` is a port of `Renewal`: texts stand for certificates, the empty one for one that is broken."""

    def __init__(self, text: str) -> None:
        self.there = self.in_use = text

    def renew(self) -> bool:
        if not self.there:
            raise InvalidInput("the certificate is broken")
        renewed = self.there != self.in_use
        self.in_use = self.there
        return renewed
