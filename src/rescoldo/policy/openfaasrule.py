"""The alert rule that OpenFaaS's gateway ships: it fires while a function has more than 5 requests a second.

The rule is for users who rely on it (`rescoldo serve --openfaas-rule`), and applies to functions that set both
`com.openfaas.scale.min` and `.max`. While the alert fires, each step adds a share of the function's maximum. Once the
alert is resolved, the function has its minimum or the number that policy/scaling.py asks for. The scaling policy alone
scales better: it follows the load of the instances, not the rate of calls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rescoldo.model.function import FunctionPolicy
from rescoldo.policy.alerts import replicas_after_alert

RATE = 5.0  # requests a second
WINDOW = 10.0  # seconds over which they are averaged
LASTING = 5.0  # seconds above RATE before the alert fires
REPEAT = 30.0  # seconds between steps while the alert fires
SPACING = 0.5  # seconds that kept samples are apart


@dataclass(frozen=True, slots=True)
class Alert:
    """The recent request counts of a function, and the state of its alert."""

    samples: tuple[tuple[float, int], ...] = ()  # seconds on any clock that does not go back, requests begun by then
    over_since: float | None = None  # when the rate rose above RATE; None: it is not above
    least: int = 0  # instances that the alert asks for; 0: it does not fire
    raised_at: float = 0.0  # when the last step was


def watch(alert: Alert, policy: FunctionPolicy, now: float, total: int) -> Alert:
    """Return the alert after a sample: `total` requests have begun by `now`. A new edge restarts the counter at 0."""
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
    """Return the samples within the window, and the last one before it, with the new sample added."""
    if before and total < before[-1][1]:
        return ((now, total),)
    late = [number for number, (at, _) in enumerate(before) if at <= now - WINDOW]
    kept = before[late[-1] :] if late else before
    return kept if kept and now - kept[-1][0] < SPACING else (*kept, (now, total))
