"""Health checks: one small question to a process over its Unix socket."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path

SLICE = 1.0  # seconds
ANSWER = 65536  # bytes read of an answer; the rest does not matter
PAUSE = 2.0  # seconds between two questions, which are most of the work of an idle platform


@dataclass(frozen=True, slots=True)
class Probe:
    """A question that a healthy process answers at once, whatever else it does; any byte is an answer."""

    path: Path
    question: bytes

    async def answered(self, patience: float) -> bool:
        """Ask until an answer comes; return False when none has come within `patience` seconds.

        The time is counted in slices: when this process itself is stopped for a while, one slice is over afterwards,
        not all of them, so that the stop does not count as the other process's silence.
        """
        asking = asyncio.create_task(self._ask(), name=f"probe {self.path.name}")
        try:
            for _ in range(max(1, round(patience / SLICE))):
                await asyncio.wait({asking}, timeout=SLICE)
                if asking.done():
                    return True
            return False
        finally:
            asking.cancel()

    async def _ask(self) -> None:
        """Ask again and again, and return at the first answer."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                # asyncio's streams would cost more, and probes run for ever
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                    sock.setblocking(False)
                    await loop.sock_connect(sock, str(self.path))
                    await loop.sock_sendall(sock, self.question)
                    if await loop.sock_recv(sock, ANSWER):
                        return
            except OSError:
                pass
            await asyncio.sleep(SLICE / 4)
