"""An in-memory node for tests of the layers above; it passes the same contract tests as the real one.

It runs nothing. Time passes by asyncio.sleep alone, so virtual time works, and tests decide all events.
"""

from __future__ import annotations

import asyncio
import platform
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace

from rescoldo.model.calls import FailedCall
from rescoldo.model.coldstart import NO_TIME
from rescoldo.model.errors import Conflict, NodeUnavailable, RescoldoError, StartFailed, StartTimeout
from rescoldo.model.instance import Launch, LogLine, RunningInstance
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.node.protocol import Exit, InstanceUsage, NodeDescription, SparePool

_MEMORY = 7 * 2**20  # bytes that each instance reports


def _address(folder: str) -> str:
    return f"unix@{folder}/{{instance}}.sock"


class FakeNode:
    """Implements `Node`. Tests set `description`, `start_delay`, `answer_delay`, `stop_delay`, `took`, `fail` and
    `reachable`, and call `lose` and `print`; `started` and `stopped` record the requests, in order."""

    def __init__(self, folder: str = "/fake/i") -> None:
        self.description = NodeDescription(
            platform.machine(), platform.system(), {"level": "fake"}, False, 10_000, _address(folder)
        )
        self.start_delay = 0.0  # seconds from start to ready
        self.took = NO_TIME  # durations that starts report
        self.answer_delay = 0.0  # seconds from ready to the answer
        self.stop_delay = 0.0  # seconds a stop takes
        self.fail: dict[FunctionId, deque[RescoldoError]] = {}  # raised by the next starts, in turn
        self.started: list[Launch] = []
        self.stopped: list[InstanceId] = []
        self.explained: list[FailedCall] = []
        self.more: dict[FunctionId, int] = {}
        self._reachable = True
        self._running: dict[InstanceId, RunningInstance] = {}
        self._starting: dict[InstanceId, asyncio.Event] = {}  # set: the start is cancelled
        self._lines: dict[FunctionId, list[LogLine]] = {}
        self._muted: set[InstanceId] = set()  # instances of forgotten functions
        self._news = asyncio.Event()  # replaced at each line
        self._watchers: list[tuple[Callable[[Exit], None], Callable[[], None]]] = []

    # -- what tests do

    def lose(
        self, instance: InstanceId, reason: str = "signal 9 (SIGKILL)", lived: float | None = None
    ) -> None:
        """End the instance without a request, `lived` seconds after it was ready; it is not replaced."""
        running = self._running.pop(instance)
        for on_exit, _ in self._watchers:
            on_exit(Exit(instance, running.launch.function, reason, lived))

    def print(self, function: FunctionId, instance: InstanceId, text: str) -> None:
        """Let the instance write a line."""
        if instance in self._muted:
            return
        self._lines.setdefault(function, []).append(LogLine(function, instance, self._now(), text))
        self._wake_followers()

    def _wake_followers(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    @property
    def reachable(self) -> bool:
        """False: every method raises NodeUnavailable. On a change to True, watchers get `on_restart`."""
        return self._reachable

    @reachable.setter
    def reachable(self, value: bool) -> None:
        back = value and not self._reachable
        self._reachable = value
        self._wake_followers()
        if back:
            for _, on_restart in self._watchers:
                on_restart()

    # -- Node

    async def describe(self) -> NodeDescription:
        self._check()
        return self.description

    async def start(
        self, launch: Launch, on_address: Callable[[str], None] | None = None, *, successor: bool = False
    ) -> RunningInstance:
        self._check()
        if launch.instance in self._running or launch.instance in self._starting:
            raise Conflict(f"instance {launch.instance} exists already")
        self.started.append(launch)
        address = f"127.0.0.1:{launch.port}" if launch.binds else self._address_of(launch)
        if on_address is not None:
            on_address(address)
        called_off = self._starting[launch.instance] = asyncio.Event()
        try:
            await self._pass_start(launch, called_off)
        finally:
            del self._starting[launch.instance]
        self._check()
        if failures := self.fail.get(launch.function):
            raise failures.popleft()
        running = RunningInstance(launch, 1000 + len(self.started), 0, address, self._now(), self.took)
        self._running[launch.instance] = running
        await asyncio.sleep(self.answer_delay)
        return running

    async def _pass_start(self, launch: Launch, called_off: asyncio.Event) -> None:
        delay = min(self.start_delay, launch.ready_timeout)
        try:
            async with asyncio.timeout(delay):
                await called_off.wait()
        except TimeoutError:
            if self.start_delay > launch.ready_timeout:
                reason = f"it was not ready after {launch.ready_timeout:g} s"
                raise StartTimeout(f"{launch.function}: {reason}") from None
        else:
            raise StartFailed(f"{launch.function}: stopped while it was starting")

    async def stop(self, instance: InstanceId) -> None:
        self._check()
        self.stopped.append(instance)
        if instance in self._starting:
            self._starting[instance].set()
        if self._running.pop(instance, None) is not None:
            await asyncio.sleep(self.stop_delay)

    async def instances(self) -> list[RunningInstance]:
        self._check()
        return list(self._running.values())

    async def usage(self, function: FunctionId) -> list[InstanceUsage]:
        return [
            InstanceUsage(running.launch.instance, _MEMORY, 0.01)
            for running in await self.instances()
            if running.launch.function == function
        ]

    async def logs(
        self, function: FunctionId, *, tail: int | None, since: float | None, follow: bool, instance: str = ""
    ) -> AsyncIterator[LogLine]:
        self._check()
        position = len(self._lines.get(function, []))
        kept = [line for line in self._lines.get(function, []) if instance in ("", line.instance)]
        kept = [line for line in kept if since is None or line.timestamp >= since]
        for line in kept if tail is None else deque(kept, maxlen=tail):
            yield line
        while follow:
            news = self._news
            fresh = self._lines.get(function, [])[position:]
            position += len(fresh)
            for line in fresh:
                if instance in ("", line.instance):
                    yield line
            if not fresh:
                await news.wait()
                self._check()

    async def spares(self) -> SparePool:
        self._check()
        return SparePool(0, 0, 0)

    async def explain(self, calls: Sequence[FailedCall], more: Mapping[FunctionId, int]) -> None:
        self._check()
        self.explained += calls
        self.more |= more

    async def failures(self, function: FunctionId) -> list[FailedCall]:
        self._check()
        return [replace(call, reason="its instance ended") for call in self.explained if call.function == function]

    async def forget(self, function: FunctionId) -> None:
        self._check()
        self.explained = [call for call in self.explained if call.function != function]
        self._lines.pop(function, None)
        self._muted |= {launch.instance for launch in self.started if launch.function == function}

    async def watch(self, on_exit: Callable[[Exit], None], on_restart: Callable[[], None]) -> None:
        watcher = (on_exit, on_restart)
        self._watchers.append(watcher)
        try:
            if self._reachable:
                on_restart()
            await asyncio.Event().wait()
        finally:
            self._watchers.remove(watcher)

    def _address_of(self, launch: Launch) -> str:
        return self.description.instance_address.format(instance=launch.instance)

    def _check(self) -> None:
        if not self._reachable:
            raise NodeUnavailable

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
