"""Measures HTTP calls with so little code that it adds little time of its own, and runs clients in processes of
their own."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from paths import BENCH
from rows import MeasurementFailed

TIMEOUT = 60.0  # seconds
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    cold: bool
    body: bytes
    seconds: float  # from before the connect to the last byte


def get(port: int, path: str, host: str = LOOPBACK) -> Reply:
    """Send one GET on a new connection."""
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    begin = time.perf_counter()
    with socket.create_connection((host, port), TIMEOUT) as connection:
        connection.sendall(request)
        received = b""
        while (length := _length(received)) is None or len(received) < length:
            chunk = connection.recv(65536)
            if not chunk:
                break
            received += chunk
        end = time.perf_counter()
    head, _, body = received.partition(b"\r\n\r\n")
    if length is None or len(received) < length:
        raise MeasurementFailed(f"GET {path}: the connection ended within the answer {received[:200]!r}")
    return Reply(int(head.split()[1]), b"x-cold-start: true" in head.lower(), body, end - begin)


def _length(received: bytes) -> int | None:
    """Return the length of the whole response once its head is complete."""
    head, end, _ = received.lower().partition(b"\r\n\r\n")
    if not end:
        return None
    _, found, rest = head.partition(b"\r\ncontent-length:")
    if not found:
        raise MeasurementFailed(f"an answer without a length: {received[:200]!r}")
    return len(head) + len(end) + int(rest.partition(b"\r\n")[0])


def get_ok(port: int, path: str, host: str = LOOPBACK) -> Reply:
    """Call `get`. Raises MeasurementFailed unless the status is 200."""
    reply = get(port, path, host)
    if reply.status != 200:
        raise MeasurementFailed(f"GET {path}: {reply.status} {reply.body[:300].decode(errors='replace')}")
    return reply


def run_client(script: str, request: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Run a client of this folder in a process of its own; task and result are JSON."""
    done = subprocess.run(
        [sys.executable, str(BENCH / script)],
        input=json.dumps(request), capture_output=True, text=True, timeout=timeout,
    )
    if done.returncode:
        raise MeasurementFailed(f"{script} failed:\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
