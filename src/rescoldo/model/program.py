"""The way an instance starts and takes requests, as its kind reads it from a deployment (kinds/protocol.py)."""

from __future__ import annotations

from dataclasses import dataclass

PYTHON = "python"  # the kind of a function without a command
PROCESS = "process"  # the kind of a function with one
UNIX = "unix"  # an upstream: the program binds the Unix socket at the path in $SOCKET
INHERITED = "inherited"  # an upstream: the program accepts on descriptor 3, as in systemd's socket activation
LEAST_MEMORY = 8 * 2**20  # bytes that a handler needs to start: measured (4 MiB) and doubled


@dataclass(frozen=True, slots=True)
class Start:
    """The kind of a deployment's instances, and the way they take requests."""

    kind: str = PYTHON  # name of their kind
    command: tuple[str, ...] = ()  # the program and its arguments; empty: the kind's own runtime serves
    upstream: str = ""  # "tcp:PORT", "unix" or "inherited"; empty: a socket on which the node listens

    @property
    def at_port(self) -> bool:
        """Whether the instances take requests at a TCP port."""
        return self.upstream.startswith("tcp:")
