"""Reports the kill matrix as rows: failed requests after a part is killed or stopped, and how long other calls
wait. tests/matrix has the matrix, its loads and its definition of in flight."""

from __future__ import annotations

import asyncio

from matrix.cells import CELLS, run
from matrix.load import STEADY
from matrix.world import World
from rows import Bar, Measurement, Row, say
from support.live import Live

OUTSIDE = Bar("kill matrix: failed requests that were not in flight in what was struck", "", most=0)
WARM = Bar("kill matrix: failed warm calls to others", "", most=0)
STALL = Bar("kill matrix: longest warm call to others, controller, node or zygote killed", "ms")
BACK = Bar("kill matrix: longest time until all is served again, after SIGKILL", "s")


def measure(quick: bool) -> list[Row]:
    cells = [cell for cell in CELLS if not quick or (cell.fault, cell.load) == ("SIGKILL", STEADY)]
    with Live() as live:
        world = World(live)
        world.prepare()
        results = []
        for cell in cells:
            world.settle()
            results.append(asyncio.run(run(world, cell)))
            say(f"kills: {cell}: {results[-1].failed_outside} failed otherwise")
    requests = sum(result.requests for result in results)
    how = f"{len(cells)} cells: what is struck × how × load; {requests} requests"
    shown = "".join(f"; {text}" for result in results for text in result.failures)[:300]
    killed = [result for result in results if result.fault == "SIGKILL"]
    stalls = [result.stall or 0.0 for result in killed if result.target in ("controller", "node", "zygote")]
    slowest = max(killed, key=lambda result: result.served_after)
    return [
        OUTSIDE.row(sum(result.failed_outside for result in results), how + shown),
        WARM.row(sum(result.failed_warm for result in results), how),
        STALL.row(max(stalls) * 1000, f"{len(stalls)} cells"),
        BACK.row(slowest.served_after, f"{slowest.target}, {slowest.load}"),
    ]


MEASUREMENT = Measurement("kills", (OUTSIDE, WARM, STALL, BACK), measure)
