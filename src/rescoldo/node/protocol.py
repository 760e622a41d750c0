"""What the controller asks of a node, and what a node asks for: the plug-points `Node`, `Bundles` and `Secrets`.

`NodeClient` (client.py) speaks to the node process over its Unix socket; `FakeNode` (fake.py) is the
in-memory stand-in for tests. Both pass tests/contract/test_node.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rescoldo.model.calls import FailedCall
from rescoldo.model.instance import Launch, LogLine, RunningInstance
from rescoldo.model.names import FunctionId, InstanceId


@dataclass(frozen=True, slots=True)
class Exit:
    """An instance is gone for good: it was ready once, nobody asked it to stop, and it was not replaced."""

    instance: InstanceId
    function: FunctionId
    reason: str  # "exit status 3", "signal 11 (SIGSEGV)", ...
    lived: float | None = None  # seconds it was ready at the last; None: not known


@dataclass(frozen=True, slots=True)
class InstanceUsage:
    """What an instance uses, read from /proc."""

    instance: InstanceId
    memory: int  # bytes (PSS)
    cpu_seconds: float  # since its start


@dataclass(frozen=True, slots=True)
class SparePool:
    """Sandboxes made in advance, for functions that are handlers."""

    ready: int
    wanted: int  # by recent bursts and the settings
    most: int


@dataclass(frozen=True, slots=True)
class NodeDescription:
    """What a node is; it stays the same for as long as the node process lives."""

    architecture: str  # as platform.machine() says it: "x86_64"
    system: str  # as platform.system() says it: "Linux"
    isolation: Mapping[str, str]  # what keeps its instances apart, as `rescoldo status` shows it
    private_ports: bool  # programs of different instances may bind the same TCP port
    most_instances: int  # that it runs at once
    instance_address: str  # of an instance that the node listens for: "unix@FOLDER/{instance}.sock"


class Node(Protocol):
    """Starts and stops instances. Every method raises NodeUnavailable while the node cannot be reached."""

    async def describe(self) -> NodeDescription:
        """What this node is."""
        ...

    async def start(
        self, launch: Launch, on_address: Callable[[str], None] | None = None, *, successor: bool = False
    ) -> RunningInstance:
        """Start an instance; return when it serves at the address that is returned with it.

        `on_address` gets that address while the instance starts. Until it is ready requests wait there, but for a
        program that binds its own socket: then they are refused.

        `successor`: every other instance of the function is on its way out. Where programs share an address, this one
        waits for its TCP port then, within its ready timeout.

        Raises StartFailed (with the reason and the last lines it wrote), StartTimeout after
        launch.ready_timeout seconds, Busy when there is no room.
        """
        ...

    async def stop(self, instance: InstanceId) -> None:
        """SIGTERM, launch.grace seconds, SIGKILL; return when all processes of the instance are gone and
        its socket is removed. An unknown instance is no error: stopping is idempotent."""
        ...

    async def instances(self) -> list[RunningInstance]:
        """Every instance that is ready now: from this a new controller adopts what runs."""
        ...

    async def usage(self, function: FunctionId) -> list[InstanceUsage]:
        """What the ready instances of `function` use."""
        ...

    def logs(
        self, function: FunctionId, *, tail: int | None, since: float | None, follow: bool, instance: str = ""
    ) -> AsyncIterator[LogLine]:
        """The function's lines, oldest first: the last `tail` (None: all kept) not older than `since`
        (Unix seconds); with `follow`, then the new ones as they are written, until closed."""
        ...

    async def spares(self) -> SparePool:
        """The sandboxes made in advance."""
        ...

    async def explain(self, calls: Sequence[FailedCall], more: Mapping[FunctionId, int]) -> None:
        """Find out why `calls` failed, and write it to their functions' logs; soon, since how an instance ended may be
        known only after this. `more` says of a function how many other calls failed."""
        ...

    async def failures(self, function: FunctionId) -> list[FailedCall]:
        """The last failed calls of `function` with their reasons, the oldest first: few, and of this node process."""
        ...

    async def forget(self, function: FunctionId) -> None:
        """Remove what is kept of a removed function (its logs); what its instances print from now on is not kept."""
        ...

    async def watch(self, on_exit: Callable[[Exit], None], on_restart: Callable[[], None]) -> None:
        """Run until cancelled: call `on_exit` for each instance that is lost, and `on_restart` whenever the
        node was reached (again), after which `instances()` tells the truth. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class BundleHere:
    """An unpacked bundle on the node's own disk."""

    path: Path
    gid: int  # the group that may read it; 0 where the platform is not root


class Bundles(Protocol):
    """Where a node finds the bundles of the instances it starts."""

    async def find(self, digest: str) -> BundleHere:
        """The bundle of that digest, fetched first where it is not here yet. Raises StartFailed, with the remedy,
        when it cannot be had."""
        ...


class Secrets(Protocol):
    """Where a node finds the secrets of the instances it starts."""

    async def open(self, namespace: str, name: str) -> int:
        """A descriptor of the secret's value, open for reading at its start, not inherited; the caller closes it.
        Raises StartFailed, which names the secret and the remedy, when it cannot be had."""
        ...
