"""The plug-points of the node: `Node`, which the controller uses, and `Bundles` and `Secrets`, which the node uses.

`NodeClient` (client.py) implements `Node` over the node's Unix socket; `FakeNode` (fake.py) is the in-memory
stand-in for tests. Both pass tests/contract/test_node.py.
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
    """The loss of an instance: it was ready once, nobody asked it to stop, and it was not replaced."""

    instance: InstanceId
    function: FunctionId
    reason: str  # "exit status 3", "signal 11 (SIGSEGV)", ...
    lived: float | None = None  # seconds for which its last process was ready; None: unknown


@dataclass(frozen=True, slots=True)
class InstanceUsage:
    """Memory and processor time of an instance, read from /proc."""

    instance: InstanceId
    memory: int  # bytes (PSS)
    cpu_seconds: float  # since its start


@dataclass(frozen=True, slots=True)
class SparePool:
    """The numbers of sandboxes made in advance, for functions that are handlers."""

    ready: int
    wanted: int  # by recent bursts and the settings
    most: int


@dataclass(frozen=True, slots=True)
class NodeDescription:
    """The properties of a node; they stay the same for as long as the node process lives."""

    architecture: str  # as from platform.machine(): "x86_64"
    system: str  # as from platform.system(): "Linux"
    isolation: Mapping[str, str]  # what keeps its instances apart, as `rescoldo status` shows it
    private_ports: bool  # programs of different instances may bind the same TCP port
    most_instances: int  # the most instances that it runs at once
    instance_address: str  # of an instance for which the node listens: "unix@FOLDER/{instance}.sock"


class Node(Protocol):
    """Starts and stops instances. Every method raises NodeUnavailable while the node cannot be reached, except
    `watch`."""

    async def describe(self) -> NodeDescription:
        """Describe this node."""
        ...

    async def start(
        self, launch: Launch, on_address: Callable[[str], None] | None = None, *, successor: bool = False
    ) -> RunningInstance:
        """Start an instance; return when it serves at the returned address.

        `on_address` gets that address while the instance starts. Requests wait there until the instance is ready. A
        program that binds its own socket is the exception: without a stand-in (program_port.py) its address refuses
        them until then.

        `successor`: any other instance of the function at this one's TCP port is leaving, even if its stop has not
        reached the node yet. Where programs share an address, this instance then waits for the port, within its ready
        timeout. Instances of other revisions may stay, in a split of the traffic or while this revision is checked:
        the controller does not run two revisions with the same port at once there.

        Raises StartFailed (with the reason and the last lines of output), StartTimeout after launch.ready_timeout
        seconds, Busy when the node is full.
        """
        ...

    async def stop(self, instance: InstanceId) -> None:
        """Stop an instance: SIGTERM, launch.grace seconds, SIGKILL. Return when all its processes are gone and its
        socket is removed. An unknown instance is no error: stopping is idempotent."""
        ...

    async def instances(self) -> list[RunningInstance]:
        """Every instance that is ready now; a new controller adopts them."""
        ...

    async def usage(self, function: FunctionId) -> list[InstanceUsage]:
        """Memory and processor time of the ready instances of `function`."""
        ...

    def logs(
        self, function: FunctionId, *, tail: int | None, since: float | None, follow: bool, instance: str = ""
    ) -> AsyncIterator[LogLine]:
        """The function's log lines, oldest first: the last `tail` (None: all kept) not older than `since` (Unix
        seconds). With `follow`, then new lines as they are written, until closed."""
        ...

    async def spares(self) -> SparePool:
        """The numbers of sandboxes made in advance."""
        ...

    async def explain(self, calls: Sequence[FailedCall], more: Mapping[FunctionId, int]) -> None:
        """Find out why `calls` failed, and write the reasons to their functions' logs. The node does so soon after
        this returns, as it may notice an instance's end only later. `more` counts each function's other failed
        calls."""
        ...

    async def failures(self, function: FunctionId) -> list[FailedCall]:
        """The last few failed calls of `function` with their reasons, oldest first, since the start of this node
        process."""
        ...

    async def forget(self, function: FunctionId) -> None:
        """Remove the logs and failed calls of a removed function; further output of its instances is not kept."""
        ...

    async def watch(self, on_exit: Callable[[Exit], None], on_restart: Callable[[], None]) -> None:
        """Run until cancelled: call `on_exit` for each lost instance, and `on_restart` whenever the node is reached
        (again); `instances()` is then up to date. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class BundleHere:
    """An unpacked bundle on the node's own disk."""

    path: Path
    gid: int  # the group that may read it; 0 where the platform does not run as root


class Bundles(Protocol):
    """Provides the bundles of the instances that a node starts."""

    async def find(self, digest: str) -> BundleHere:
        """The bundle of that digest, fetched first if necessary. Raises StartFailed, with the remedy, when it is
        not available."""
        ...


class Secrets(Protocol):
    """Provides the secrets of the instances that a node starts."""

    async def open(self, namespace: str, name: str) -> int:
        """A descriptor of the secret's value, open for reading at its start, not inherited; the caller closes it.
        Raises StartFailed, which names the secret and the remedy, when the secret is not available."""
        ...
