"""Calls functions just as they fall asleep. race.py runs it; JSON in, JSON out."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import asdict, dataclass, field

from callers import Answer, Caller, report, request

# Seconds from the end of a call to the next one, for an idle window of 50 ms: at the end of the window; while the
# slot is unrouted and watched for 50 ms; while the slot is retired (until 250 ms after the wake) and its instance
# stops. The spans overlap on purpose, to cover the moments in between.
SPANS = ((0.04, 0.075), (0.075, 0.13), (0.11, 0.2), (0.2, 0.42))
PAIRS = 0.2  # share of calls with a simultaneous second call


@dataclass(slots=True)
class Seen:
    calls: int = 0
    sleeps: int = 0  # instances after a function's first one: each proves a completed sleep
    caught: int = 0  # cold calls answered by the previous instance: each proves a cancelled sleep
    error_count: int = 0
    errors: list[str] = field(default_factory=list)  # the first ten


class Race:
    def __init__(self, port: int, sleeps: int, deadline: float) -> None:
        self._port = port
        self._wanted = sleeps
        self._deadline = deadline
        self.seen = Seen()

    async def run(self, name: str, seed: int) -> None:
        """Call one function until there were enough sleeps or the time is over. Half of the functions are called
        over a persistent connection. About half of the calls are POSTs, which nothing repeats."""
        randomness = random.Random(seed)
        caller, second = Caller(self._port, keep=seed % 2 == 0), Caller(self._port, keep=False)
        known: set[str] = set()
        last = ""
        while self.seen.sleeps < self._wanted and time.monotonic() < self._deadline:
            pause = randomness.uniform(*randomness.choice(SPANS))
            await asyncio.sleep(pause)  # the pause is the load
            callers = [caller, second] if randomness.random() < PAIRS else [caller]
            method = randomness.choice(("GET", "POST"))
            answers = await asyncio.gather(*(self._call(one, method, name, pause) for one in callers))
            good = [answer for answer in answers if answer is not None]
            new = {answer.body for answer in good} - known
            self.seen.sleeps += len(new) if known else 0
            self.seen.caught += any(answer.cold and answer.body == last for answer in good)
            known |= new
            last = next(iter(new), last)

    async def _call(self, caller: Caller, method: str, name: str, pause: float) -> Answer | None:
        """Return the response, "NAME INSTANCE" from the function itself; None after an error, which is recorded."""
        self.seen.calls += 1
        try:
            answer = await caller.call(method, name)
        except (OSError, EOFError) as error:
            wrong = repr(error)
        else:
            if answer.status == 200 and answer.body.startswith(f"{name} "):
                return answer
            wrong = f"{answer.status} {answer.body[:200]!r}"
        self.seen.error_count += 1
        if len(self.seen.errors) < 10:
            self.seen.errors.append(f"{method} {name} after a pause of {pause * 1000:.0f} ms: {wrong}")
        return None


async def main(port: int, names: list[str], sleeps: int, seconds: float) -> Seen:
    race = Race(port, sleeps, time.monotonic() + seconds)
    await asyncio.gather(*(race.run(name, seed) for seed, name in enumerate(names)))
    return race.seen


if __name__ == "__main__":
    asked = request()
    report(asdict(asyncio.run(main(asked["port"], asked["names"], asked["sleeps"], asked["seconds"]))))
