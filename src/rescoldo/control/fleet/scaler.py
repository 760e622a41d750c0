"""Gives awake functions as many instances as policy/scaling.py decides.

A few times a second, a round reads the functions that may need another number: functions with traffic since the last
round, or with several instances. The others cost nothing. When the edge reports a full slot, the scaler reads it
at once.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from rescoldo.control.fleet.awake import Awake, Scale
from rescoldo.control.fleet.entry import Entry
from rescoldo.control.fleet.fleet import Fleet
from rescoldo.control.fleet.life import Stage
from rescoldo.edge.protocol import Edge, SlotLoad
from rescoldo.model.errors import EdgeUnavailable, NodeUnavailable
from rescoldo.model.function import FunctionPolicy
from rescoldo.model.names import SlotName
from rescoldo.model.scaling import CPU
from rescoldo.node.protocol import Node
from rescoldo.policy.openfaasrule import RATE, watch
from rescoldo.policy.scaling import Sample, Spec, begin, decide

LOOK_SECONDS = 0.25  # between two rounds
LOOK_SHARE = 20  # a pause is at least so many times as long as the round before: 1 s after 0.05 s
LONGEST_PAUSE = 2.0  # seconds; bounds the pause after a slow round, or one that the edge did not answer
CPU_SECONDS = 1.0  # between two readings of the cpu that a function's instances used
TOLD_SECONDS = 0.02  # for which the edge need not report the same full slot again
HELPLESS_SECONDS = 0.25  # the same for a slot that gets no more instances


class Scaler:
    """Decides the number of instances of each awake function."""

    def __init__(self, fleet: Fleet, edge: Edge, node: Node) -> None:
        self._fleet = fleet
        self._edge = edge
        self._node = node
        self._in_slot: dict[SlotName, Entry] = {}  # a cache of `_entry`, which checks each hit

    async def run(self) -> None:
        """Run rounds while something is awake."""
        loop = asyncio.get_running_loop()
        while True:
            await self._fleet.entries.woken.wait()
            begun = loop.time()
            await self.look()
            await asyncio.sleep(min(LONGEST_PAUSE, max(LOOK_SECONDS, LOOK_SHARE * (loop.time() - begun))))

    async def look(self) -> None:
        """Run one round."""
        found = [(e, e.awake) for e in self._fleet.entries.values() if e.awake is not None and _may_change(e, e.awake)]
        if not found:
            return
        await asyncio.gather(*(self._read_cpu(e, awake) for e, awake in found if awake.policy.scaling.metric == CPU))
        try:
            loads = await self._edge.loads([awake.slot for _, awake in found])
        except EdgeUnavailable:
            return
        for entry, awake in found:
            if entry.awake is awake and (load := loads.get(awake.slot)) is not None:
                self._decide(entry, awake, load)

    async def full(self, slot: SlotName) -> float:
        """Read a slot that the edge reports as full; return the seconds for which the edge need not report it again."""
        entry = self._entry(slot)
        awake = entry.awake if entry is not None else None
        if entry is None or awake is None:
            return HELPLESS_SECONDS
        try:
            load = await self._edge.load(slot)
        except EdgeUnavailable:
            return TOLD_SECONDS
        if entry.awake is awake:
            # count the request that found no place: it may have found one since, or was refused because none may queue
            self._decide(entry, awake, replace(load, queued=max(1, load.queued)))
        return HELPLESS_SECONDS if awake.wanted >= spec_of(awake.policy, entry.requested).maximum else TOLD_SECONDS

    def _decide(self, entry: Entry, awake: Awake, load: SlotLoad) -> None:
        now = asyncio.get_running_loop().time()
        scale = _scale(awake, now)
        begun = load.total - scale.total if scale.total is not None else 0
        sample = Sample(now, load.in_flight, load.queued, max(0, begun), scale.millicores)
        if awake.policy.openfaas_rule:
            scale.alert = watch(scale.alert, awake.policy, now, load.total)
        spec = spec_of(awake.policy, max(entry.requested, scale.alert.least))
        scale.decision, scale.state = decide(spec, scale.state, sample, len(awake.servers))
        scale.looked_at, scale.total, scale.busy = now, load.total, load.busy
        if awake.stage is Stage.SERVING:
            wanted, reason = scale.decision.wanted, scale.decision.reason
            if wanted == scale.alert.least:
                reason = f"more than {RATE:g} requests a second: OpenFaaS's rule"
            self._fleet.replicas.change(entry, awake, wanted, reason)

    async def _read_cpu(self, entry: Entry, awake: Awake) -> None:
        now = asyncio.get_running_loop().time()
        scale = _scale(awake, now)
        if now < scale.cpu_due:
            return
        scale.cpu_due = now + CPU_SECONDS
        try:
            used = [one for one in await self._node.usage(entry.id) if one.instance in awake.servers]
        except NodeUnavailable:
            return
        scale.millicores = scale.cpu.millicores(entry.id, used, now)

    def _entry(self, slot: SlotName) -> Entry | None:
        entry = self._in_slot.get(slot)
        if entry is None or entry.awake is None or entry.awake.slot != slot:
            self._in_slot = {e.awake.slot: e for e in self._fleet.entries.values() if e.awake is not None}
            entry = self._in_slot.get(slot)
        return entry


def _scale(awake: Awake, now: float) -> Scale:
    if awake.scale is None:
        awake.scale = Scale(begin(awake.answered_at, awake.wanted), now)
    return awake.scale


def _may_change(entry: Entry, awake: Awake) -> bool:
    scale = awake.scale
    spec = spec_of(awake.policy, entry.requested)
    if spec.minimum == spec.maximum == awake.wanted:
        return False
    if entry.past or entry.function.traffic:  # the access log does not say which revision served a call
        return True
    if scale is None or scale.busy or awake.wanted > spec.minimum or len(awake.servers) > 1:
        return True
    return awake.activity.last_active >= scale.looked_at


def spec_of(policy: FunctionPolicy, requested: int) -> Spec:
    """The scaler's settings for a function; `requested` is the number of replicas that its user requested."""
    least = max(policy.woken, requested)
    return Spec(policy.scaling, least, max(policy.max_replicas, least), policy.limits.concurrency)
