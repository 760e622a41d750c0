"""Stands for a function of a trace: runs for the number of seconds in the request's body."""

from __future__ import annotations

import asyncio
from typing import Any


async def handle(event: Any, context: Any) -> dict[str, object]:
    """Respond after the time in the body."""
    await asyncio.sleep(float(event.body))
    return {"statusCode": 200}
