"""Lets the edge finish the requests it has when the platform stops.

HAProxy's own soft stop (SIGUSR1) does not end while anyone holds a connection to its admin socket, and the
controller always does. So whether clients are left is asked over a connection of our own, made before the
signal: it closes the listener of that socket too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

LOOK_SECONDS = 0.02
PROMPT = b"\n> "
NO_CLIENT = b"CurrConns: 0\n"  # connections to the admin socket do not count


async def drained(admin_socket: Path, soft_stop: Callable[[], None]) -> None:
    """Call `soft_stop`, which makes HAProxy accept no more; return when no client is left or it has ended.

    Raises OSError, before or after `soft_stop`, when HAProxy cannot be asked.
    """
    reader, writer = await asyncio.open_unix_connection(str(admin_socket))
    try:
        writer.write(b"prompt\n")
        await reader.readuntil(PROMPT)
        soft_stop()
        while True:
            writer.write(b"show info\n")
            if NO_CLIENT in await reader.readuntil(PROMPT):
                return
            await asyncio.sleep(LOOK_SECONDS)
    except asyncio.IncompleteReadError:
        return
    finally:
        writer.close()
