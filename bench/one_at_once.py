"""Measures a concurrency of one over many instances: the function itself proves that it never has two calls."""

from __future__ import annotations

import statistics

import vegeta
from processes import instance_pids, wait_calm
from rows import Bar, Measurement, Row, say
from support.live import Live

INSTANCES, REQUESTS, SECONDS = 50, 2000, 0.02  # of a request in s
WORKERS = 4 * INSTANCES  # clients: enough that no instance waits for its next request
# a sync handler runs in threads; one that blocked the event loop could never have two calls and would prove nothing
CODE = (
    "import time\n\nINSIDE = 0\n\ndef handle(event, context):\n    global INSIDE\n    INSIDE += 1\n"
    f"    time.sleep({SECONDS})\n    met, INSIDE = INSIDE, INSIDE - 1\n"
    "    return {'statusCode': 200 if met == 1 else 500, 'body': f'{met} at once'}\n"
)
NAME = "one"

TWICE = Bar(f"concurrency 1, {INSTANCES} instances, {REQUESTS:,} requests of 20 ms: two at once, or failed", "", most=0)
TOTAL = Bar(f"concurrency 1, {INSTANCES} instances, {REQUESTS:,} requests of 20 ms: total ÷ ideal", "", most=1.3)


def measure(quick: bool) -> list[Row]:
    rounds = 3 if quick else 9
    ideal = REQUESTS * SECONDS / INSTANCES
    bounds = {"com.openfaas.scale.min": str(INSTANCES), "com.openfaas.scale.max": str(INSTANCES)}
    totals, hits = [], []
    with Live() as live:
        live.deploy(NAME, CODE, labels=bounds, annotations={"rescoldo.dev/concurrency": "1"})
        live.until(lambda: live.replicas(NAME) == INSTANCES, f"{INSTANCES} instances", seconds=60.0)
        urls = [f"http://127.0.0.1:{live.port}/function/{NAME}"] * REQUESTS
        for number in range(rounds):
            wait_calm(live)
            found = vegeta.all_at_once(urls, WORKERS, live.folder, kept=True)
            totals.append(max(hit.ended for hit in found))
            hits += found
            say(f"one at once: round {number + 1}/{rounds}: {totals[-1]:.2f} s, ideal {ideal:.2f} s, "
                f"{len(instance_pids(live))} processes")  # fmt: skip
    failed = f"; {vegeta.failures(hits)}" if any(hit.error for hit in hits) else ""
    how = f"{rounds} rounds, vegeta with {WORKERS} clients{failed}"
    return [
        TWICE.row(sum(bool(hit.error) for hit in hits), f"counted by the handler, of {len(hits):,}; {how}"),
        TOTAL.row(
            statistics.median(totals) / ideal,
            f"median {statistics.median(totals):.2f} s ({min(totals):.2f} to {max(totals):.2f}), ideal {ideal:.2f} s; "
            f"a sync handler that sleeps; {how}",
        ),
    ]


MEASUREMENT = Measurement("one-at-once", (TWICE, TOTAL), measure, ("go",))
