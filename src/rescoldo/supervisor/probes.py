"""Whether a process still answers: one small question over its Unix socket."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

SLICE = 1.0  # seconds
PAUSE = 1.0  # seconds between one question and the next


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
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self.path)
                try:
                    writer.write(self.question)
                    if await reader.read(1):
                        return
                finally:
                    writer.close()
            except OSError:
                pass
            await asyncio.sleep(SLICE / 4)
