"""Scales a function by a Prometheus alert, as OpenFaaS's legacy scaling does.

Source: https://docs.openfaas.com/architecture/autoscaling ("Legacy scaling": /system/alert, com.openfaas.scale.factor).
"""

from __future__ import annotations

import math

from rescoldo.model.function import FunctionPolicy


def replicas_after_alert(firing: bool, current: int, policy: FunctionPolicy) -> int | None:
    """Return the new number of instances, or None if it stays as it is.

    A firing alert adds a share of the maximum: with max 20 and factor 20, each adds 4. A resolved alert returns the
    function to the number that a wake starts; from there its idle window puts it to sleep,
    once no call is in flight.
    """
    if policy.scale_factor == 0 or policy.min_replicas == policy.max_replicas:
        return None
    if not firing:
        return policy.woken if current > policy.woken else None
    wanted = min(policy.max_replicas, current + math.ceil(policy.max_replicas * policy.scale_factor / 100))
    return wanted if wanted > current else None
