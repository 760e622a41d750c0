"""Writes what a client sends into a new file, up to a bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from rescoldo.model.errors import TooLarge


async def write_new(path: Path, body: AsyncIterator[bytes], most: int, what: str) -> None:
    """Write `body` to `path`, at most `most` bytes of it. Raises TooLarge, which calls it `what`, FileExistsError, and
    OSError."""
    size = 0
    with path.open("xb") as file:
        async for chunk in body:
            size += len(chunk)
            if size > most:
                raise TooLarge(f"the {what} is larger than the {most} bytes allowed")
            await asyncio.to_thread(file.write, chunk)
