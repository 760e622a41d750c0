"""For all tests."""

from __future__ import annotations

import asyncio

# looptime asks for the current loop around every sync test too; before the first async one asyncio would
# make a loop for it that nobody closes
asyncio.set_event_loop(None)
