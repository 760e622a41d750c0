"""Ports for what tests start: no two get the same, however many tests run beside each other."""

from __future__ import annotations

import itertools
import os
import random
import socket
from collections.abc import Iterator

# Below Linux' ephemeral ports (32768 and up): a port from there can be the local end of somebody's connection by the
# time that it is bound. HAProxy binds with SO_REUSEPORT, so two edges that were given one port would share its clients.
FIRST, EACH = 10_000, 5_000  # each of pytest-xdist's workers, and who runs without them, has a range of its own
RANGES = 4


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nothing listens on now, and that no caller in this process was given lately."""
    return [next(_free) for _ in range(count)]


def _of_this_process() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw-1").removeprefix("gw")) + 1
    own = range(FIRST + worker % RANGES * EACH, FIRST + (worker % RANGES + 1) * EACH)
    begin = random.randrange(EACH)  # other processes may draw from the same range
    for number in itertools.count(begin):
        port = own[number % EACH]
        if _is_free(port):
            yield port


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


_free = _of_this_process()
