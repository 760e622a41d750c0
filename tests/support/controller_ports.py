"""In-memory implementations of the controller's small ports, for tests."""

from __future__ import annotations

from collections.abc import Callable

from rescoldo.control.observe.processes import PlatformProcess
from rescoldo.edge.protocol import EdgeState
from rescoldo.model.errors import InvalidInput


class MemoryProcesses:
    """Implements `Processes` with a given list of processes."""

    def __init__(self) -> None:
        self.known: dict[str, PlatformProcess] = {}

    def running(self) -> list[PlatformProcess]:
        return list(self.known.values())


class MemoryReload:
    """Implements `Reload` by recording its calls. A test in the role of the next edge calls the last of `states`,
    which counts as delivered from then on."""

    def __init__(self) -> None:
        self.answers = True  # whether the supervisor answers
        self.slots: list[int] = []  # of each reload so far
        self.states: list[Callable[[], EdgeState]] = []  # of each reload so far

    def __call__(self, slots: int, state: Callable[[], EdgeState]) -> bool:
        if self.answers:
            self.slots.append(slots)
            self.states.append(state)
        return self.answers


class MemoryCertificate:
    """Its method `renew` is a port of `Renewal`: texts stand for certificates, the empty text for a broken one."""

    def __init__(self, text: str) -> None:
        self.there = self.in_use = text

    def renew(self) -> bool:
        if not self.there:
            raise InvalidInput("the certificate is broken")
        renewed = self.there != self.in_use
        self.in_use = self.there
        return renewed
