"""What a worker asks of its cluster's control, and what it tells it: the plug-point `Control`.

Control keeps the truth, the owner of a function changes it: a worker reads documents, and saves those of the functions
that it owns. `ControlClient` (client.py) speaks to a real one; `MemoryControl` (fake.py) is the shipped fake. Both pass
tests/contract/test_link.py. Every method raises Unreachable while control cannot be reached.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from rescoldo.model.deployed import Deployed
from rescoldo.model.errors import Busy, StoreError
from rescoldo.model.names import FunctionId
from rescoldo.policy.grants import Grant
from rescoldo.store.protocol import Bundle, MinuteUsage

GONE = 0  # the version of a function that was removed
BUILD_PATH = "/link/build"  # of the routes for builds' pods (api/link_builds.py)
HEARTBEAT_SECONDS = 2.0  # between two lines of the stream of changes, at most
QUIET_SECONDS = 10.0  # between two reports of a worker on which nothing changes
SILENT_SECONDS = 3 * QUIET_SECONDS  # without a report, a worker counts as gone
Archive = Literal["bundles", "layers"]


class Unreachable(StoreError, Busy):
    """The cluster's control cannot be reached now; try again."""

    status = 503


class Refused(StoreError, Busy):
    """This worker cannot take over the function as it is deployed."""

    status = 503


@dataclass(frozen=True, slots=True)
class Delivery:
    """A function with what its instances need."""

    document: Deployed
    layers: Mapping[str, str] = field(default_factory=dict)  # the layer of each bundle that has one, by digest
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)  # the values of those that it names


@dataclass(frozen=True, slots=True)
class Change:
    """A function has another version; GONE: it was removed."""

    function: FunctionId
    version: int
    mark: int = 0  # what control waits for until the worker reports it (marks.py); 0: nobody waits


@dataclass(frozen=True, slots=True)
class Counts:
    """A batch of counted calls. Control counts each number of a sender once, however often it arrives."""

    sender: str  # unique for a folder of counts
    number: int  # 1, 2, 3 …
    rows: tuple[MinuteUsage, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What one worker runs and serves. Control forgets a sender that was silent for SILENT_SECONDS."""

    sender: str  # POD/PROCESS: the worker's pod, and a random name of its process
    awake: Mapping[FunctionId, int]  # instances that answer now; a function without any is left out
    # the versions served here that changed since the last report that control took, GONE for those served no more; all
    # versions in the first report after a reconnect
    applied: Mapping[FunctionId, int]
    refused: Mapping[FunctionId, str]  # why this worker could not take over the present document of a function
    # the marks of changes that are in force here, or refused, since the last report; None: the worker knows no marks
    marks: Mapping[FunctionId, int] | None = field(default_factory=dict)
    left: bool = False  # its last report: this process ends
    earlier: str = ""  # the sender whose place this process has taken, as that was killed: it will not report again

    @property
    def worker(self) -> str:
        """The worker's pod, as the gateway names it in X-Rescoldo-Worker."""
        return self.sender.partition("/")[0]

    def upon(self, before: Report | None) -> Report:
        """All that control knows of this sender, if all that it knew was `before`."""
        known = {**(before.applied if before is not None else {}), **self.applied}
        return replace(self, applied={function: version for function, version in known.items() if version != GONE})


class Control(Protocol):
    """The control of a cluster, as one worker sees it: its namespace alone."""

    async def deliver(self, function: FunctionId) -> Delivery | None:
        """Return a function and what it needs; None if it is not deployed."""
        ...

    async def versions(self) -> dict[FunctionId, int]:
        """Return the present version of every function."""
        ...

    def changes(self) -> AsyncIterator[Change | None]:
        """Iterate over all changes from the first item on, which is None; None comes again at least every
        HEARTBEAT_SECONDS. Raises Unreachable at its end."""
        ...

    async def put(self, document: Deployed) -> int:
        """Save a document; see `Documents.put`."""
        ...

    async def delete(self, function: FunctionId) -> None:
        """Forget a function; an unknown one is no error."""
        ...

    async def image(self, image: str) -> tuple[Bundle, str] | None:
        """Return the bundle that an image name points to, and the digest of its layer (empty: it has none)."""
        ...

    async def secrets(self, names: Collection[str]) -> dict[str, bytes]:
        """Return the values of those secrets that exist."""
        ...

    def archive(self, kind: Archive, digest: str) -> AsyncIterator[bytes]:
        """Iterate over the bytes of a stored archive. Raises NotFound."""
        ...

    async def count(self, counts: Counts) -> None:
        """Add counted calls to those that control keeps."""
        ...

    async def report(self, report: Report) -> None:
        """Tell what this worker runs and serves; control adds it to what it knows of the sender (`Report.upon`)."""
        ...

    async def grant(self, function: FunctionId, sender: str) -> Grant:
        """Ask for the right to run a function with max-strict, or for its renewal; see policy/grants.py."""
        ...

    async def give_back(self, function: FunctionId, sender: str, token: str) -> None:
        """End the grant with that token, if it is the latest; another is no error."""
        ...
