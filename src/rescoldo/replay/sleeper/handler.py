"""Stands for a function of a trace: runs for as many seconds as the request's body says."""

from __future__ import annotations

import asyncio
from typing import Any


async def handle(event: Any, context: Any) -> dict[str, object]:
    """Answer when the time has passed."""
    await asyncio.sleep(float(event.body))
    return {"statusCode": 200}
