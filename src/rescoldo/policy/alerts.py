"""How many instances a function gets by an alert of Prometheus: the manual way of scaling that OpenFaaS has.

Source: https://docs.openfaas.com/architecture/autoscaling ("Legacy scaling": /system/alert, com.openfaas.scale.factor).
"""

from __future__ import annotations

import math

from rescoldo.model.function import FunctionPolicy


def replicas_after_alert(firing: bool, current: int, policy: FunctionPolicy) -> int | None:
    """The new number, or None where nothing changes.

    A firing alert adds a share of the maximum: with max 20 and factor 20, each adds 4. A resolved one brings the
    function back to what a wake starts; from there it sleeps by its idle window, when no call is in flight.
    """
    if policy.scale_factor == 0 or policy.min_replicas == policy.max_replicas:
        return None
    if not firing:
        return policy.woken if current > policy.woken else None
    wanted = min(policy.max_replicas, current + math.ceil(policy.max_replicas * policy.scale_factor / 100))
    return wanted if wanted > current else None
