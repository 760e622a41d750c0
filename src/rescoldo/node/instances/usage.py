"""Memory and processor time of instances, read from /proc."""

from __future__ import annotations

from collections.abc import Iterable

from rescoldo.model.instance import RunningInstance
from rescoldo.node.processes.processes import members, proportional_memory, read_stat
from rescoldo.node.protocol import InstanceUsage


async def usage_of(instances: Iterable[RunningInstance], *, own_uids: bool) -> list[InstanceUsage]:
    """Memory and processor time of each instance. `own_uids`: each instance has its own uid, by which its processes
    are found."""
    return [await _usage(instance, own_uids) for instance in instances]


async def _usage(instance: RunningInstance, own_uid: bool) -> InstanceUsage:
    memory, cpu = 0, 0.0
    for pid in await members({instance.pid}, instance.uid if own_uid else None):
        stat = read_stat(pid)
        if stat is None:
            continue
        proportional = proportional_memory(pid)
        memory += stat.resident if proportional is None else proportional
        cpu += stat.cpu_seconds
    return InstanceUsage(instance.launch.instance, memory, round(cpu, 3))
