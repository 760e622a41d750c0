"""One running copy of a function, in the messages between the node and the controller."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rescoldo.model.coldstart import NO_TIME, StartTimes
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.model.program import PROCESS, PYTHON

# The node sends this to a Python function that may have closed its listening socket, if it cannot inspect the process.
# By default the signal is ignored, so it does no harm to other programs.
LISTENS = signal.SIGURG
MAX_ORDER = 2**20  # bytes of an order to become an instance, most of it the function's environment


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything that the node needs to start one instance."""

    instance: InstanceId
    function: FunctionId
    digest: str  # names the unpacked bundle's folder below the bundle root
    env: Mapping[str, str] = field(default_factory=dict)  # the function's own variables
    concurrency: int = 1  # requests at once
    exec_timeout: float = 30.0  # seconds for one call
    ready_timeout: float = 15.0  # seconds from its turn in the start queue until it is ready
    grace: float = 5.0  # seconds between SIGTERM and SIGKILL
    max_body: int = 0  # bytes of one request's body; 0: any number
    max_response: int = 0  # bytes of one response; 0: any number
    revision: int = 1
    generation: int = 0  # as in Function
    kind: str = PYTHON  # kind of function; this, command and upstream are as in Start
    command: tuple[str, ...] = ()
    upstream: str = ""
    memory_limit: int = 0  # bytes; 0: none
    cpu_limit: int = 0  # millicores; 0: none
    max_files: int = 4096  # descriptors, besides one for each request at once
    log_rate: int = 256 * 2**10  # bytes a second kept of its output
    secrets: tuple[str, ...] = ()  # names in the function's namespace, files at /var/openfaas/secrets/NAME

    @property
    def port(self) -> int:
        """The TCP port that the program binds; 0 for none."""
        kind, _, port = self.upstream.partition(":")
        return int(port) if kind == "tcp" else 0

    @property
    def binds(self) -> bool:
        """Whether the program binds its own socket; otherwise it inherits one that listens before it starts."""
        return self.upstream == "unix" or self.port > 0

    def to_json(self) -> dict[str, Any]:
        # each wake does this several times; dataclasses.asdict makes deep copies and is ten times slower
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Launch:
        """Read a launch as `to_json` writes it, also one of an older platform."""
        launch = {name: value for name, value in data.items() if name != "gid"}  # in an older platform's files
        for name in ("command", "secrets"):  # JSON has no tuples
            launch[name] = tuple(launch.get(name, ()))
        if "kind" not in launch:  # a file from before kinds had names
            launch["kind"] = PROCESS if launch["command"] else PYTHON
        return cls(**launch)


@dataclass(frozen=True, slots=True)
class RunningInstance:
    """The node's report of an instance that is ready."""

    launch: Launch
    pid: int
    uid: int
    address: str  # where it takes requests, as HAProxy writes it: "unix@PATH" or "IP:PORT"
    started_at: float  # Unix seconds
    # durations of its start on the node; NO_TIME if unknown, because the node has restarted since
    took: StartTimes = field(default=NO_TIME, compare=False)

    def to_state(self) -> dict[str, Any]:
        """Return everything but the launch, which its sender knows already."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "launch"}

    @classmethod
    def from_state(cls, launch: Launch, state: Mapping[str, Any]) -> RunningInstance:
        return cls(launch, **{**state, "took": StartTimes(*state["took"])})

    def to_json(self) -> dict[str, Any]:
        return self.to_state() | {"launch": self.launch.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunningInstance:
        state = {name: value for name, value in data.items() if name != "launch"}
        return cls.from_state(Launch.from_json(data["launch"]), state)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a function's output; fields as in OpenFaaS's /system/logs."""

    function: FunctionId
    instance: InstanceId
    timestamp: float  # Unix seconds
    text: str
