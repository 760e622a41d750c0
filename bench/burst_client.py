"""Calls many functions at once, each over a connection of its own. Run by burst.py; JSON in, JSON out."""

from __future__ import annotations

import asyncio
import time

from callers import Caller, report, request


async def burst(port: int, names: list[str], expected: str) -> dict[str, object]:
    begin = time.perf_counter()
    errors, warm = [], 0

    async def call(name: str) -> None:
        nonlocal warm
        try:
            answer = await Caller(port, keep=False).call("GET", name)
        except (OSError, EOFError) as error:
            errors.append(f"{name}: {error!r}")
            return
        warm += not answer.cold
        if (answer.status, answer.body) != (200, expected):
            errors.append(f"{name}: {answer.status} {answer.body[:200]}")

    await asyncio.gather(*(call(name) for name in names))
    return {"seconds": time.perf_counter() - begin, "errors": errors, "warm": warm}


if __name__ == "__main__":
    asked = request()
    report(asyncio.run(burst(asked["port"], asked["names"], asked["expected"])))
