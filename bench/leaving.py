"""Measures held clients that leave, in each way that a client can leave."""

from __future__ import annotations

import asyncio
import json
import time

from client import get
from leavers import HOW, Leaver, ask
from rescoldo.edge.admin import AdminSocket
from rows import Bar, Measurement, MeasurementFailed, Row, say
from support.gateway import HELLO
from support.live import Live

WAVES, EACH = 10, 500  # as many as the gateway holds for one function
IMPORT = 12.0  # seconds that the called functions take to start: all clients leave before a wake ends
PATIENCE = 30.0  # seconds

ANSWERED = Bar(
    f"{WAVES * EACH:,} clients, {EACH} at a time, that leave while held; then a sleeping function: not answered",
    "", most=0,
)  # fmt: skip
FREE = Bar("the same: until no place is held any more", "s", most=2.0)


def measure(quick: bool) -> list[Row]:
    waves = len(HOW) if quick else WAVES
    with Live() as live:
        live.upload("slow:bench", f"import time\ntime.sleep({IMPORT})\n{HELLO}")
        for number in range(waves):
            live.deploy(f"slow-{number}", image="slow:bench", annotations={"rescoldo.dev/rollout": "immediate"})
        live.deploy("other", HELLO)
        slowest = asyncio.run(_waves(live, waves))
        answer = get(live.port, "/function/other")
    how = f"{waves} waves, {', '.join(HOW)} in turn; each wave calls a function that takes {IMPORT:g} s to start"
    return [
        ANSWERED.row(0 if answer.status == 200 else 1, f"HTTP {answer.status} in {answer.seconds * 1e3:.1f} ms; {how}"),
        FREE.row(slowest, f"slowest wave, as edge and controller count them; {how}"),
    ]


async def _waves(live: Live, waves: int) -> float:
    """Return the slowest wave's seconds from its leaving until edge and controller count none of it."""
    found = []
    for number in range(waves):
        how = HOW[number % len(HOW)]
        leavers = await ask("127.0.0.1", live.port, f"/function/slow-{number}", how, EACH)
        await _until(live, EACH)
        begin = time.monotonic()
        for leaver in leavers:
            await leaver.leave()
        await _until(live, 0)
        found.append(time.monotonic() - begin)
        say(f"leaving: wave {number + 1}/{waves}, {how}: {found[-1]:.2f} s")
        await _close(leavers)
    return max(found)


async def _until(live: Live, count: int) -> None:
    """Wait until edge and controller both hold `count` requests."""
    admin = AdminSocket(live.settings.admin_socket)
    deadline = time.monotonic() + PATIENCE
    while True:
        edge = int(await admin.run("show holds"))
        status = await asyncio.to_thread(live.system, "GET", "/status")
        controller = int(json.loads(status.text)["held"])
        if edge == controller == count:
            return
        if time.monotonic() > deadline:
            raise MeasurementFailed(f"{edge} are held by the edge, {controller} by the controller, not {count}")
        await asyncio.sleep(0.02)


async def _close(leavers: list[Leaver]) -> None:
    for leaver in leavers:
        await leaver.close()


MEASUREMENT = Measurement("leaving", (ANSWERED, FREE), measure)
