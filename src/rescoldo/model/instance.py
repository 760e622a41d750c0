"""One running copy of a function, as the node and the controller speak of it."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rescoldo.model.coldstart import NO_TIME, StartTimes
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.model.program import PROCESS, PYTHON

# Sent to a Python function that may have closed its listening socket, where the node cannot look into its process. A
# program that does not know the signal ignores it.
LISTENS = signal.SIGURG
MAX_ORDER = 2**20  # bytes of what a process is told to become an instance, most of it the function's environment


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything the node needs to start one instance."""

    instance: InstanceId
    function: FunctionId
    digest: str  # names the unpacked bundle's folder below the bundle root
    env: Mapping[str, str] = field(default_factory=dict)  # the function's own variables
    concurrency: int = 1  # requests at once
    exec_timeout: float = 30.0  # seconds for one call
    ready_timeout: float = 15.0  # seconds from its turn to start until it is ready
    grace: float = 5.0  # seconds between SIGTERM and SIGKILL
    max_body: int = 0  # bytes of one request's body; 0: any number
    max_response: int = 0  # bytes of one answer; 0: any number
    revision: int = 1
    generation: int = 0  # of what the function's starts are given beside its deployment: its secrets' values
    kind: str = PYTHON  # of function; with command and upstream as in Start
    command: tuple[str, ...] = ()
    upstream: str = ""
    memory_limit: int = 0  # bytes; 0: none
    cpu_limit: int = 0  # millicores; 0: none
    max_files: int = 4096  # descriptors, besides one for each request at once
    log_rate: int = 256 * 2**10  # bytes a second that are kept of what it prints
    secrets: tuple[str, ...] = ()  # names in the function's namespace, files at /var/openfaas/secrets/NAME

    @property
    def port(self) -> int:
        """The TCP port that the program binds; 0: none."""
        kind, _, port = self.upstream.partition(":")
        return int(port) if kind == "tcp" else 0

    @property
    def binds(self) -> bool:
        """Whether the program binds its own socket; else it is given one that listens before it starts."""
        return self.upstream == "unix" or self.port > 0

    def to_json(self) -> dict[str, Any]:
        # written out several times in each wake; dataclasses.asdict would copy it all deeply, ten times slower
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Launch:
        launch = {name: value for name, value in data.items() if name != "gid"}  # an older platform's notes have it
        for name in ("command", "secrets"):  # JSON has no tuples
            launch[name] = tuple(launch.get(name, ()))
        if "kind" not in launch:  # a note written before kinds had names in it
            launch["kind"] = PROCESS if launch["command"] else PYTHON
        return cls(**launch)


@dataclass(frozen=True, slots=True)
class RunningInstance:
    """What the node reports of an instance that is ready."""

    launch: Launch
    pid: int
    uid: int
    address: str  # where it takes requests, as HAProxy writes it: "unix@PATH" or "IP:PORT"
    started_at: float  # Unix seconds
    # what its start took on the node; nothing where that is not known: the node has been started again since
    took: StartTimes = field(default=NO_TIME, compare=False)

    def to_state(self) -> dict[str, Any]:
        """All but the launch, for who asked for it and knows it."""
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
    """One line a function wrote; fields as in OpenFaaS's /system/logs."""

    function: FunctionId
    instance: InstanceId
    timestamp: float  # Unix seconds
    text: str
