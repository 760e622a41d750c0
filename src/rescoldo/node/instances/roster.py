"""The set of this node's instances."""

from __future__ import annotations

from collections.abc import Iterator

from rescoldo.isolation.container import descriptors
from rescoldo.model.errors import Busy, Conflict
from rescoldo.model.instance import Launch, RunningInstance
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.node.instances.supervised import Supervised
from rescoldo.node.processes.processes import Watched

MAX_INSTANCES = 10_000
DESCRIPTORS_EACH = 6  # of an instance: listener, two FIFOs, pidfd, listener for its forks, and one in reserve


class Roster:
    """Holds each instance from its admission until nothing of it is left."""

    def __init__(self, reserved: int) -> None:
        """`reserved`: descriptors that this process may need for other purposes. With a limit of 10 000 descriptors
        and 600 reserved, there is room for 9400 / 6 = 1566 instances."""
        self._all: dict[InstanceId, Supervised] = {}
        self.most = min(MAX_INSTANCES, (descriptors() - reserved) // DESCRIPTORS_EACH)

    def __iter__(self) -> Iterator[Supervised]:
        """Iterate over a snapshot, so that instances may come and go meanwhile."""
        return iter(list(self._all.values()))

    def __contains__(self, instance: object) -> bool:
        return instance in self._all

    def find(self, instance: InstanceId) -> Supervised | None:
        """The instance of that name; None for an unknown one."""
        return self._all.get(instance)

    def check_room(self, launch: Launch) -> None:
        """Raise Conflict for an instance that exists, Busy when the node is full."""
        if launch.instance in self._all:
            raise Conflict(f"instance {launch.instance} exists already")
        if len(self._all) >= self.most:
            limit = "" if self.most == MAX_INSTANCES else ": raise its limit of descriptors (ulimit -n)"
            raise Busy(f"this node runs {self.most} instances, the most allowed{limit}")

    def add(self, instance: Supervised) -> None:
        """Add a new instance, or an adopted one."""
        self._all[instance.note.launch.instance] = instance

    def remove(self, instance: Supervised) -> bool:
        """Remove an instance whose processes are gone; return whether it was here."""
        return self._all.pop(instance.note.launch.instance, None) is not None

    def mute(self, function: FunctionId) -> None:
        """Drop further output of a removed function's instances, which are ending."""
        for found in self:
            if found.function == function:
                found.output.mute()

    def running(self) -> list[RunningInstance]:
        """Every instance that is ready or whose process is being replaced, unless a stop is under way."""
        return [found.running() for found in self if found.serves]

    def processes(self) -> list[Watched]:
        """The main process of each instance that has one."""
        return [found.process for found in self if found.process is not None]

    def sandboxes(self) -> set[str]:
        """The names of the instances' sandboxes."""
        return {found.note.sandbox for found in self}

    def at_shared_ports(self) -> list[Supervised]:
        """Ready programs at TCP ports without a stand-in, whose requests would reveal that the program has left its
        port."""
        return [found for found in self if found.endpoint.tcp and not found.endpoint.backlog and found.was_ready]

    def substitute(self, lost: Supervised) -> str | None:
        """The address of a serving instance of the same revision and generation as `lost`; None where there is
        none."""
        for found in self:
            if found.serves and found.endpoint.backlog is not None and _what_runs(found) == _what_runs(lost):
                return found.address
        return None


def _what_runs(instance: Supervised) -> tuple[FunctionId, int, int]:
    launch = instance.note.launch
    return launch.function, launch.revision, launch.generation
