"""The states of functions, for users."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from rescoldo.control.fleet.cpu import CpuSampler
from rescoldo.control.fleet.entries import Entries
from rescoldo.control.fleet.entry import Entry
from rescoldo.control.fleet.standings import reason_of, state_of, wanted_of
from rescoldo.control.observe.explain import explain
from rescoldo.control.observe.recorder import Recorder
from rescoldo.model.calls import FailedCall
from rescoldo.model.errors import NodeUnavailable
from rescoldo.model.function import FunctionSpec, FunctionStatus
from rescoldo.model.names import FunctionId
from rescoldo.node.protocol import Node


class Statuses:
    """Reports the status of one function, or of all in a namespace."""

    def __init__(
        self, entries: Entries, recorder: Recorder, node: Node, notes: Callable[[FunctionSpec, str], list[str]],
        elsewhere: Callable[[FunctionId], int] = lambda function: 0,
    ) -> None:
        """`notes` returns a sentence for each setting without effect, for a deployment and its bundle's digest;
        `elsewhere` the number of instances that other processes run: a cluster's workers."""
        self._elsewhere = elsewhere
        self._entries = entries
        self._recorder = recorder
        self._node = node
        self._notes = notes
        self._cpu = CpuSampler()

    def functions(self, namespace: str) -> list[FunctionStatus]:
        """See api.protocol.Statuses."""
        counts = self._recorder.invocations()
        entries = [entry for entry in self._entries.functions() if entry.function.spec.namespace == namespace]
        return [self._status(entry, counts) for entry in sorted(entries, key=lambda entry: entry.id)]

    async def function(self, function: FunctionId, *, usage: bool = False, why: bool = False) -> FunctionStatus:
        """See api.protocol.Statuses."""
        entry = self._entries.current(function)
        found = replace(
            self._status(entry, self._recorder.invocations()),
            limits=entry.policy.limits,
            notes=self._notes(entry.function.spec, entry.function.digest),
        )
        if why:
            found = replace(found, why=explain(entry, asyncio.get_running_loop().time()))
        if not usage:
            return found
        used = await self._node.usage(function) if found.available else []
        cold = self._recorder.cold.of(function).summary(entry.failed_wakes or {})
        memory = sum(one.memory for one in used)
        cpu = self._cpu.millicores(function, used, time.monotonic())
        found = replace(found, cpu=cpu, memory=memory, cold_starts=cold, failures=await self._failures(function))
        return replace(found, isolation=await self._isolation())

    async def _failures(self, function: FunctionId) -> list[FailedCall] | None:
        """The function's failed calls; None while the node restarts."""
        with contextlib.suppress(NodeUnavailable):
            return await self._node.failures(function)
        return None

    async def _isolation(self) -> Mapping[str, str] | None:
        """What isolates the instances; None while the node restarts."""
        with contextlib.suppress(NodeUnavailable):
            return (await self._node.describe()).isolation
        return None

    def _status(self, entry: Entry, counts: Mapping[FunctionId, int]) -> FunctionStatus:
        revisions = self._entries.revisions(entry.id) if entry.function.traffic else [entry]
        here = sum(len(one.awake.servers) for one in revisions if one.awake is not None)
        running = here + self._elsewhere(entry.id)
        state = state_of(entry, running)
        return FunctionStatus(
            entry.function,
            max(sum(map(wanted_of, revisions)), running),
            running,
            counts.get(entry.id, 0),
            policy=entry.policy,
            state=state,
            reason=reason_of(entry, state),
        )
