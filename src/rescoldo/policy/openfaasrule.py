"""OpenFaaS's own rule as its gateway ships it: an alert while a function has more than 5 requests a second.

It is there for those who count on it (`rescoldo serve --openfaas-rule`), and applies to functions that set both
`com.openfaas.scale.min` and `.max`. While the alert fires the function gets a share of its maximum more, again and
again; when it is resolved it has its minimum, and what policy/scaling.py asks for. That alone scales better: by what
instances have to do, not by how often they are called.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rescoldo.model.function import FunctionPolicy
from rescoldo.policy.alerts import replicas_after_alert

RATE = 5.0  # requests a second
WINDOW = 10.0  # seconds over which they are averaged
LASTING = 5.0  # seconds for which it must be more before the alert fires
REPEAT = 30.0  # seconds from one step to the next while it fires
SPACING = 0.5  # seconds between two samples that are kept


@dataclass(frozen=True, slots=True)
class Alert:
    """What is known of a function's requests, and whether the alert fires."""

    samples: tuple[tuple[float, int], ...] = ()  # seconds on any clock that does not go back, requests begun by then
    over_since: float | None = None  # None: no more than RATE
    least: int = 0  # instances that it asks for; 0: it does not fire
    raised_at: float = 0.0  # the last step


def watch(alert: Alert, policy: FunctionPolicy, now: float, total: int) -> Alert:
    """Take in that `total` requests have begun by `now`, of a counter that may begin anew with a new edge."""
    samples = _samples(alert.samples, now, total)
    begun, first = samples[0]
    alert = replace(alert, samples=samples)
    rate = (total - first) / WINDOW if now > begun else 0.0
    if rate <= RATE:
        return replace(alert, over_since=None, least=0)
    since = now if alert.over_since is None else alert.over_since
    alert = replace(alert, over_since=since)
    if now - since < LASTING or (alert.least and now - alert.raised_at < REPEAT):
        return alert
    wanted = replicas_after_alert(True, max(policy.woken, alert.least), policy)
    return alert if wanted is None else replace(alert, least=wanted, raised_at=now)


def _samples(before: tuple[tuple[float, int], ...], now: float, total: int) -> tuple[tuple[float, int], ...]:
    """Those of the window, and the last one before it."""
    if before and total < before[-1][1]:
        return ((now, total),)
    late = [number for number, (at, _) in enumerate(before) if at <= now - WINDOW]
    kept = before[late[-1] :] if late else before
    return kept if kept and now - kept[-1][0] < SPACING else (*kept, (now, total))
