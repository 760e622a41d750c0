"""Loads equivalent servers in turn and compares their rates."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping

from rows import Bar, Row, say

Rates = dict[str, list[float]]


def in_turn(what: str, runs: Mapping[str, Callable[[], float]], rounds: int) -> Rates:
    """Call each of `runs` once in each round; return their results (requests/s) by name."""
    rates: Rates = {name: [] for name in runs}
    for number in range(rounds):
        for name, run in runs.items():
            rates[name].append(run())
        last = ", ".join(f"{name} {found[-1]:,.0f}" for name, found in rates.items())
        say(f"{what} {number + 1}/{rounds}: {last} requests/s")
    return rates


def ratio_row(bar: Bar, rates: Rates, name: str, other: str, how: str) -> Row:
    """Return the row with the median of the rounds' ratios of `name` to `other`."""
    one, against = (statistics.median(rates[which]) for which in (name, other))
    ratio = statistics.median(mine / its for mine, its in zip(rates[name], rates[other], strict=True))
    return bar.row(ratio, f"{one:,.0f} against {against:,.0f} requests/s; {how}")
