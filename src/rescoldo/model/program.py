"""How an instance is started and takes requests, as its kind reads it from a deployment (kinds/protocol.py)."""

from __future__ import annotations

from dataclasses import dataclass

PYTHON = "python"  # the kind of what has no command
PROCESS = "process"  # the kind of what has one
UNIX = "unix"  # an upstream: the program binds the Unix socket whose path $SOCKET holds
INHERITED = "inherited"  # an upstream: the program accepts on descriptor 3, as with systemd's socket activation
LEAST_MEMORY = 8 * 2**20  # bytes without which no handler starts: measured (4 MiB) and doubled


@dataclass(frozen=True, slots=True)
class Start:
    """What the instances of a deployment are, and how they take requests."""

    kind: str = PYTHON  # name of their kind
    command: tuple[str, ...] = ()  # what is executed; empty: the kind's own runtime serves
    upstream: str = ""  # as in Launch: "tcp:PORT", "unix", "inherited"; empty: at a socket that the node listens on

    @property
    def at_port(self) -> bool:
        """Whether they take requests at a TCP port."""
        return self.upstream.startswith("tcp:")
