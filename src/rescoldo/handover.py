"""Hands listening sockets from a process to its child: by descriptor number in the environment."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

PREFIX = "RESCOLDO_FD_"


def handed_over(descriptors: Mapping[str, int]) -> dict[str, str]:
    """Return the environment variables that name a child's sockets; the caller must pass the descriptors on, too."""
    return {PREFIX + name.upper(): str(number) for name, number in descriptors.items()}


def inherited(name: str) -> socket.socket:
    """Return the socket `name` that the supervisor handed to this process. Raises KeyError if there is none."""
    descriptor = int(os.environ.pop(PREFIX + name.upper()))
    sock = socket.socket(fileno=descriptor)
    sock.setblocking(False)
    os.set_inheritable(descriptor, False)  # this process's own children must not get it
    return sock
