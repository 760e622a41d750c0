"""Whether a process still answers: one small question over its Unix socket."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path

SLICE = 1.0  # seconds
ANSWER = 65536  # bytes that are read of an answer; what is longer is not of interest
PAUSE = 2.0  # seconds between one question and the next: they are most of what a platform at rest does


@dataclass(frozen=True, slots=True)
class Probe:
    """A question that a healthy process answers at once, whatever else it does; any byte is an answer."""

    path: Path
    question: bytes

    async def answered(self, patience: float) -> bool:
        """Ask once; False when nothing came back within `patience` seconds, or was refused all that time.

        The time is counted in slices, so that a stop of this process itself is not taken for the other's
        silence: after it one slice is over, not all.
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
        """Return once it has answered."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                # a stream would cost more, and this is asked for ever
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                    sock.setblocking(False)
                    await loop.sock_connect(sock, str(self.path))
                    await loop.sock_sendall(sock, self.question)
                    if await loop.sock_recv(sock, ANSWER):
                        return
            except OSError:
                pass
            await asyncio.sleep(SLICE / 4)
