"""Hands out ports for tests: parallel tests never get the same port."""

from __future__ import annotations

import itertools
import os
import random
import socket
from collections.abc import Iterator

# Below Linux' ephemeral ports (32768 and up): before a test binds an ephemeral port, it could become the local end
# of another connection. HAProxy binds with SO_REUSEPORT, so two edges with the same port would share their clients.
FIRST, EACH = 10_000, 5_000  # each worker of pytest-xdist has a range of its own, as has a run without workers
RANGES = 4


def free_ports(count: int) -> list[int]:
    """Return ports of loopback on which nothing listens and which this process has not handed out recently."""
    return [next(_free) for _ in range(count)]


def _of_this_process() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw-1").removeprefix("gw")) + 1
    own = range(FIRST + worker % RANGES * EACH, FIRST + (worker % RANGES + 1) * EACH)
    begin = random.randrange(EACH)  # other test runs may draw from the same range
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
