"""Notes to a deployment's author about settings that are accepted but have no effect.

A platform that silently ignores a setting lets the author rely on a limit or a schedule that does not exist.
Settings that are always a mistake are refused instead (`check_spec` in kinds/deployment.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rescoldo.model.function import FunctionSpec
from rescoldo.model.limits import OURS, has_no_timeout
from rescoldo.model.scaling import KNATIVE, SCALE, SCALING_KEYS
from rescoldo.policy.placement import is_known

FULL, UNPRIVILEGED = "full", "unprivileged"
PREFIX = "note: "  # begins each note in the API's response to a deployment
SHOWN = 80  # characters that a note repeats of a name or value

_EVENTS = {"schedule": "nothing calls the function on a schedule", "topic": "no event reaches the function"}
_SCALE_LABELS = ("min", "max", "zero", "zero-duration", "factor", "type", "target", "target-proportion", "down.window")
_KNATIVE_ONLY = frozenset(SCALING_KEYS) - {"max-scale-up-rate", "max-scale-down-rate"}
# of-watchdog's settings that rescoldo does not read, and what applies instead
_WATCHDOG = {
    "read_timeout": "exec_timeout limits a call",
    "write_timeout": "exec_timeout limits a call",
    "healthcheck_interval": "an instance is ready once it listens",
    "jwt_auth": "calls are not authenticated; put an authenticating proxy in front of the gateway",
    "buffer_http": "a program gets the body as a stream, a Python function gets it whole",
    "http_buffer_req_body": "a program gets the body as a stream, a Python function gets it whole",
    "prefix_logs": "lines are kept as printed; time and instance are separate fields",
    "log_buffer_size": "rescoldo.dev/log-rate limits the kept output",
    "RAW_BODY": "handle(req) gets text, handle(event, context) gets bytes",
}


def notes(spec: FunctionSpec, level: str, of_kind: Iterable[str]) -> list[str]:
    """Return a sentence for each setting of `spec` that has no effect, beginning with the setting's key.

    `level` is the platform's isolation: "full", "unprivileged", or empty if unknown. `of_kind` are the notes of the
    function's kind (`notes_of` in kinds/deployment.py).
    """
    return [*_events(spec), *of_kind, *_resources(spec, level), *_environment(spec), *_keys(spec)]


def _events(spec: FunctionSpec) -> Iterator[str]:
    for key, lacking in _EVENTS.items():
        if key in spec.annotations:
            yield f"annotation {key}: {lacking}; rescoldo has no event sources yet"


def _resources(spec: FunctionSpec, level: str) -> Iterator[str]:
    if level == UNPRIVILEGED:
        if spec.limits.get("cpu"):
            yield "limits.cpu: not enforced at the isolation level unprivileged; run the platform as root"
        if spec.read_only_root_filesystem:
            yield "readonly_root_filesystem: not enforced at the isolation level unprivileged; run the platform as root"
    for table, values in (("limits", spec.limits), ("requests", spec.requests)):
        for key in values:
            if key not in ("memory", "cpu"):
                yield f"{table}.{key[:SHOWN]}: rescoldo does not manage this resource"
    if any(spec.requests.get(key) for key in ("memory", "cpu")):
        yield "requests: one machine reserves nothing; a memory request above the default limit raises the limit"
    for constraint in spec.constraints:
        if not is_known(constraint):
            yield f"constraint {constraint[:SHOWN]!r}: the machine has no labels besides its architecture and system"


def _environment(spec: FunctionSpec) -> Iterator[str]:
    for key, instead in _WATCHDOG.items():
        if spec.env_vars.get(key):
            yield f"environment {key}: a setting of OpenFaaS's watchdog that rescoldo ignores; {instead}"
    if has_no_timeout(spec.env_vars):
        yield "environment exec_timeout: 0 means the maximum, 24 h: every call has a timeout"


def _keys(spec: FunctionSpec) -> Iterator[str]:
    """Yield a note for each label or annotation of OpenFaaS, Knative or rescoldo that is unknown or misplaced."""
    for key in spec.labels:
        if key.startswith((OURS, KNATIVE)):
            yield f"label {key[:SHOWN]}: only works as an annotation; move it below `annotations:`"
        elif key.startswith("com.openfaas.") and key.removeprefix(SCALE) not in _SCALE_LABELS:
            yield f"label {key[:SHOWN]}: rescoldo ignores it"
    for key in spec.annotations:
        if key.startswith(SCALE):
            yield f"annotation {key[:SHOWN]}: only works as a label; move it below `labels:`"
        elif key.startswith("com.openfaas.") or _is_unread(key):
            yield f"annotation {key[:SHOWN]}: rescoldo ignores it"


def _is_unread(key: str) -> bool:
    """Return whether `key` is one of Knative's scaling annotations that rescoldo does not read."""
    return key.startswith(KNATIVE) and _dashed(key.removeprefix(KNATIVE)) not in _KNATIVE_ONLY


def _dashed(name: str) -> str:
    """Return Knative's old spelling in the new one: min-scale for minScale."""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name)
