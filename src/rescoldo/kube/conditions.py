"""Conditions of a Function: what its status says of it in the form that `kubectl wait` reads.

Source: https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md,
"Typical status properties".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rescoldo.kinds.deployment import check_spec
from rescoldo.kube.functions import from_object
from rescoldo.kube.protocol import Object
from rescoldo.model.errors import InvalidInput
from rescoldo.model.function import DEFAULT_LIMITS
from rescoldo.model.limits import Limits
from rescoldo.model.scaling import PLATFORM_DEFAULTS, ScalingDefaults

ACCEPTED = "Accepted"  # the spec passed the checks that its schema cannot make
READY = "Ready"  # calls are answered, by an instance or by waking one
ACKNOWLEDGED = "Acknowledged"  # its workers have taken over what was changed; there only after some have not
MAX_MESSAGE = 32_768  # characters; the schema's


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is so, is not so, or of which nobody knows."""

    type: str
    holds: bool | None  # None: unknown
    reason: str  # one word in CamelCase, for programs
    message: str = ""  # for people


def accepted(
    obj: Mapping[str, Any],
    defaults: Limits = DEFAULT_LIMITS,
    scaling: ScalingDefaults = PLATFORM_DEFAULTS,
    *,
    held: str = "",
) -> Condition:
    """Return whether a Function passes the checks of the HTTP API, with its words. The parameters are `check_spec`'s in
    kinds/deployment.py."""
    try:
        check_spec(from_object(obj), defaults, scaling, held=held)
    except InvalidInput as error:
        return Condition(ACCEPTED, False, "Invalid", error.message)
    return Condition(ACCEPTED, True, "Valid")


def with_conditions(
    status: Mapping[str, Any], conditions: Iterable[Condition], generation: int, now: float
) -> Object:
    """Return `status` with `conditions` in place of those of the same type, about the spec of `generation`.

    `now` is in Unix seconds. The time of a condition that holds as before does not change.
    """
    known = {str(one["type"]): one for one in status.get("conditions") or ()}
    for condition in conditions:
        known[condition.type] = _as_json(condition, known.get(condition.type), generation, now)
    return {**status, "observedGeneration": generation, "conditions": list(known.values())}


def _as_json(condition: Condition, before: Mapping[str, Any] | None, generation: int, now: float) -> Object:
    holds = "Unknown" if condition.holds is None else str(condition.holds)
    since = _moment(now) if before is None or before["status"] != holds else before["lastTransitionTime"]
    return {
        "type": condition.type,
        "status": holds,
        "observedGeneration": generation,
        "lastTransitionTime": since,
        "reason": condition.reason,
        "message": condition.message[:MAX_MESSAGE],
    }


def _moment(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
