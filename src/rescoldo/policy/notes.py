"""What of a deployment is accepted and has no effect, in sentences for its author.

A platform that ignores a setting in silence lets its author believe in a limit, or a schedule, that is not there.
What is a mistake in any case is refused instead (`check_spec` in kinds/deployment.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rescoldo.model.function import FunctionSpec
from rescoldo.model.limits import OURS, has_no_timeout
from rescoldo.model.scaling import KNATIVE, SCALE, SCALING_KEYS
from rescoldo.policy.placement import is_known

FULL, UNPRIVILEGED = "full", "unprivileged"
PREFIX = "note: "  # of each line in the API's answer to a deployment
SHOWN = 80  # characters of a name or value of the author's

_EVENTS = {"schedule": "nothing calls the function on a schedule", "topic": "no event reaches the function"}
_SCALE_LABELS = ("min", "max", "zero", "zero-duration", "factor", "type", "target", "target-proportion", "down.window")
_KNATIVE_ONLY = frozenset(SCALING_KEYS) - {"max-scale-up-rate", "max-scale-down-rate"}
# of-watchdog's settings that nothing reads here, and what holds instead
_WATCHDOG = {
    "read_timeout": "exec_timeout limits a call",
    "write_timeout": "exec_timeout limits a call",
    "healthcheck_interval": "an instance is ready once it listens",
    "jwt_auth": "calls are not authenticated; put what checks them in front of the gateway",
    "buffer_http": "a body streams to a program, and reaches a Python function whole",
    "http_buffer_req_body": "a body streams to a program, and reaches a Python function whole",
    "prefix_logs": "lines are kept as they were printed, with time and instance beside them",
    "log_buffer_size": "rescoldo.dev/log-rate bounds what is kept",
    "RAW_BODY": "handle(req) gets text, and handle(event, context) bytes",
}


def notes(spec: FunctionSpec, level: str, of_kind: Iterable[str]) -> list[str]:
    """One sentence for each setting of `spec` that has no effect on a platform with the isolation `level`
    ("full" or "unprivileged"; empty: not known). The setting's key comes first. `of_kind` are those of the function's
    kind (`notes_of` in kinds/deployment.py)."""
    return [*_events(spec), *of_kind, *_resources(spec, level), *_environment(spec), *_keys(spec)]


def _events(spec: FunctionSpec) -> Iterator[str]:
    for key, lacking in _EVENTS.items():
        if key in spec.annotations:
            yield f"annotation {key}: {lacking}; there are no event sources yet"


def _resources(spec: FunctionSpec, level: str) -> Iterator[str]:
    if level == UNPRIVILEGED:
        for key in ("memory", "cpu"):
            if spec.limits.get(key):
                yield f"limits.{key}: not held at the isolation level unprivileged; run the platform as root"
        if spec.read_only_root_filesystem:
            yield "readonly_root_filesystem: not held at the isolation level unprivileged; run the platform as root"
    for table, values in (("limits", spec.limits), ("requests", spec.requests)):
        for key in values:
            if key not in ("memory", "cpu"):
                yield f"{table}.{key[:SHOWN]}: no such resource is given out here"
    if any(spec.requests.get(key) for key in ("memory", "cpu")):
        yield "requests: nothing is reserved on one machine; of memory, more than the default raises the limit"
    for constraint in spec.constraints:
        if not is_known(constraint):
            yield f"constraint {constraint[:SHOWN]!r}: no machine here has labels besides its architecture and system"


def _environment(spec: FunctionSpec) -> Iterator[str]:
    for key, instead in _WATCHDOG.items():
        if spec.env_vars.get(key):
            yield f"environment {key}: a setting of OpenFaaS's watchdog that nothing reads here; {instead}"
    if has_no_timeout(spec.env_vars):
        yield "environment exec_timeout: 0 allows the longest time there is, 24 h: no call runs without an end"


def _keys(spec: FunctionSpec) -> Iterator[str]:
    """Labels and annotations in the names of OpenFaaS, Knative and ours that nothing reads, or not where they are."""
    for key in spec.labels:
        if key.startswith((OURS, KNATIVE)):
            yield f"label {key[:SHOWN]}: is read as an annotation; write it below `annotations:`"
        elif key.startswith("com.openfaas.") and key.removeprefix(SCALE) not in _SCALE_LABELS:
            yield f"label {key[:SHOWN]}: nothing reads it here"
    for key in spec.annotations:
        if key.startswith(SCALE):
            yield f"annotation {key[:SHOWN]}: is read as a label; write it below `labels:`"
        elif key.startswith("com.openfaas.") or _is_unread(key):
            yield f"annotation {key[:SHOWN]}: nothing reads it here"


def _is_unread(key: str) -> bool:
    """Whether it is one of Knative's for scaling that are not read."""
    return key.startswith(KNATIVE) and _dashed(key.removeprefix(KNATIVE)) not in _KNATIVE_ONLY


def _dashed(name: str) -> str:
    """Knative's old spelling in the new one: minScale is min-scale."""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name)
