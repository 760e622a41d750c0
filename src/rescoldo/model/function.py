"""What a user deploys: FunctionSpec as given, Function as kept, and the policy its labels ask for.

Sources: contracts/openfaas.md, "FunctionDeployment" and "Scaling labels".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rescoldo.model.coldstart import ColdStarts
from rescoldo.model.errors import InvalidInput
from rescoldo.model.names import DEFAULT_NAMESPACE, FunctionId, check_name, check_secret_name, function_id
from rescoldo.model.program import Program, program_of
from rescoldo.model.units import parse_cpu, parse_duration, parse_memory

SCALE = "com.openfaas.scale."
OURS = "rescoldo.dev/"

DEFAULT_IDLE_WINDOW = 10.0  # seconds; holds 13.6 % of always-on memory on the Azure sample
DEFAULT_CONCURRENCY = 32  # requests in one instance at once
MAX_CONCURRENCY = 10_000
DEFAULT_EXEC_TIMEOUT = 30.0  # seconds; of-watchdog's exec_timeout
DEFAULT_READY_TIMEOUT = 15.0  # seconds from wake to ready
MAX_READY_TIMEOUT = 110.0  # seconds; the edge holds a request for 120
DEFAULT_GRACE = 5.0  # seconds between SIGTERM and SIGKILL
DEFAULT_MAX_BODY = 6 * 2**20  # bytes; Lambda's request payload
MAX_BODY = 512 * 2**20  # bytes; an instance holds a body in memory
MAX_REPLICAS = 100
DEFAULT_MEMORY = 512 * 2**20  # bytes of one instance
DEFAULT_SCALE_FACTOR = 20  # percent of the maximum that an alert adds
MAX_SECRETS = 50  # that one function may name


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """A deployment as its user asked for it; every field but the first two may be empty."""

    name: str
    image: str
    namespace: str = DEFAULT_NAMESPACE
    env_process: str = ""
    env_vars: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    limits: Mapping[str, str] = field(default_factory=dict)
    requests: Mapping[str, str] = field(default_factory=dict)
    read_only_root_filesystem: bool = False

    @property
    def id(self) -> FunctionId:
        return function_id(self.name, self.namespace)


@dataclass(frozen=True, slots=True)
class FunctionPolicy:
    """How a function runs and scales, read from its labels, annotations and environment."""

    min_replicas: int = 0
    max_replicas: int = 20
    sleeps: bool = True  # False: kept awake with min_replicas (at least one)
    idle_window: float = DEFAULT_IDLE_WINDOW  # seconds
    concurrency: int = DEFAULT_CONCURRENCY  # requests at once in one instance
    exec_timeout: float = DEFAULT_EXEC_TIMEOUT  # seconds for one call
    ready_timeout: float = DEFAULT_READY_TIMEOUT  # seconds from start to ready
    grace: float = DEFAULT_GRACE  # seconds between SIGTERM and SIGKILL
    max_body: int = DEFAULT_MAX_BODY  # bytes of one request's body
    memory_limit: int = DEFAULT_MEMORY  # bytes; 0: none
    cpu_limit: int = 0  # millicores; 0: none
    program: Program | None = None  # None: what runs is decided by the bundle
    scale_factor: int = DEFAULT_SCALE_FACTOR  # percent of max_replicas that an alert adds; 0: alerts change nothing

    @property
    def floor(self) -> int:
        """Instances kept while nothing calls the function."""
        return 0 if self.sleeps else max(1, self.min_replicas)

    @property
    def woken(self) -> int:
        """Instances a wake from zero starts."""
        return max(1, self.min_replicas)


@dataclass(frozen=True, slots=True)
class Function:
    """A deployed function: its current revision, the bundle that runs and since when."""

    spec: FunctionSpec
    digest: str  # of the bundle that the image name meant when it was deployed
    created_at: float  # Unix seconds: the first deployment of this name
    revision: int = 1  # counts the deployments of this name, those that failed too
    revised_at: float = 0.0  # Unix seconds: the deployment of this revision
    generation: int = 0  # counts how often what a start is given changed without a deployment: a secret's value
    traffic: Mapping[int, int] = field(default_factory=dict)  # percent of the calls by revision; empty: all to this one

    @property
    def id(self) -> FunctionId:
        return self.spec.id


@dataclass(frozen=True, slots=True)
class FunctionStatus:
    """A function as it is now."""

    function: Function
    replicas: int  # instances wanted or running
    available: int  # instances that answer
    invocations: int  # calls ended since the function was first deployed
    cpu: int | None = None  # millicores used lately; None: not asked or not known
    memory: int | None = None  # bytes held by its instances; None: not asked or not known
    cold_starts: ColdStarts | None = None  # None: not asked


def policy_of(spec: FunctionSpec, default_memory: int = DEFAULT_MEMORY) -> FunctionPolicy:
    """Read the policy of `spec`; raise InvalidInput naming the label, annotation or variable that is bad.

    `default_memory` is the limit in bytes of a function that sets none (0: no limit); one that requests more gets
    as much as it requests. `com.openfaas.scale.zero` decides alone when it is set; else a minimum of one or more
    keeps a function awake, because that is what its author asked for.
    """
    labels, notes, env = spec.labels, spec.annotations, spec.env_vars
    minimum = _integer(labels, SCALE + "min", 0, 0, MAX_REPLICAS)
    maximum = _integer(labels, SCALE + "max", max(20, minimum), 1, MAX_REPLICAS)
    if maximum < minimum:
        raise InvalidInput(f"label {SCALE}max ({maximum}) is below {SCALE}min ({minimum})")
    zero = labels.get(SCALE + "zero", "").strip().lower()
    if zero not in ("", "true", "false"):
        raise InvalidInput(f"label {SCALE}zero: {zero!r} is not allowed; use true or false")
    window = notes.get(OURS + "idle-window") or labels.get(SCALE + "zero-duration", "")
    return FunctionPolicy(
        min_replicas=minimum,
        max_replicas=maximum,
        sleeps=zero == "true" or (zero == "" and minimum == 0),
        idle_window=_seconds(window, "idle window", DEFAULT_IDLE_WINDOW, 0.05, 7 * 86400.0),
        concurrency=_concurrency(notes, env),
        exec_timeout=_seconds(env.get("exec_timeout", ""), "exec_timeout", DEFAULT_EXEC_TIMEOUT, 0.01, 86400.0),
        ready_timeout=_seconds(
            notes.get(OURS + "ready-timeout", ""), "ready-timeout", DEFAULT_READY_TIMEOUT, 0.1, MAX_READY_TIMEOUT
        ),
        grace=_seconds(notes.get(OURS + "grace", ""), "grace", DEFAULT_GRACE, 0.0, 600.0),
        max_body=_body_limit(notes.get(OURS + "max-body", "")),
        memory_limit=_memory_limit(spec, default_memory),
        cpu_limit=parse_cpu(spec.limits.get("cpu") or "0", "limits.cpu"),
        program=program_of(spec.env_process, env),
        scale_factor=_integer(labels, SCALE + "factor", DEFAULT_SCALE_FACTOR, 0, 100),
    )


def check_spec(spec: FunctionSpec, default_memory: int = DEFAULT_MEMORY) -> FunctionPolicy:
    """Check the whole of a new deployment and return its policy; raise InvalidInput.

    What is stored already is not checked again: stricter rules of a later version must not end the platform.
    """
    check_name(spec.name)
    check_name(spec.namespace, "namespace")
    if not spec.image:
        raise InvalidInput(f"function {spec.name!r}: image is required")
    for key, value in spec.env_vars.items():
        if not key or "=" in key or "\0" in key or "\0" in value:
            raise InvalidInput(f"environment variable {key[:80]!r} is not valid")
    if len(spec.secrets) > MAX_SECRETS:
        raise InvalidInput(f"{len(spec.secrets)} secrets are named; a function may have at most {MAX_SECRETS}")
    for name in spec.secrets:
        check_secret_name(name)
    _check_requests(spec)
    return policy_of(spec, default_memory)


def _check_requests(spec: FunctionSpec) -> None:
    """A request above its limit can never be met."""
    for key, parse in (("memory", parse_memory), ("cpu", parse_cpu)):
        asked, most = spec.requests.get(key, ""), spec.limits.get(key, "")
        request, limit = parse(asked or "0", f"requests.{key}"), parse(most or "0", f"limits.{key}")
        if limit and request > limit:
            raise InvalidInput(f"requests.{key} ({asked}) is above limits.{key} ({most}); lower it or raise the limit")


def _memory_limit(spec: FunctionSpec, default: int) -> int:
    """Bytes; a limit that is given decides, and `0` means none."""
    if given := spec.limits.get("memory"):
        return parse_memory(given, "limits.memory")
    return max(default, parse_memory(spec.requests.get("memory") or "0", "requests.memory")) if default else 0


def _integer(values: Mapping[str, str], key: str, default: int, low: int, high: int) -> int:
    text = values.get(key, "").strip()
    if not text:
        return default
    if not text.isdigit() or not low <= int(text) <= high:
        raise InvalidInput(f"{key}: {text!r} is not allowed; use a whole number from {low} to {high}")
    return int(text)


def _seconds(text: str, what: str, default: float, low: float, high: float) -> float:
    if not text.strip():
        return default
    value = parse_duration(text, what)
    if not low <= value <= high:
        raise InvalidInput(f"{what}: {text!r} is not allowed; use {low:g}s to {high:g}s")
    return value


def _body_limit(text: str) -> int:
    limit = parse_memory(text, OURS + "max-body") if text.strip() else DEFAULT_MAX_BODY
    if not 0 < limit <= MAX_BODY:
        raise InvalidInput(f"{OURS}max-body: {text!r} is not allowed; use 1 to {MAX_BODY} bytes (512Mi)")
    return limit


def _concurrency(notes: Mapping[str, str], env: Mapping[str, str]) -> int:
    if OURS + "concurrency" in notes:
        return _integer(notes, OURS + "concurrency", DEFAULT_CONCURRENCY, 1, MAX_CONCURRENCY)
    # of-watchdog's max_inflight: 0 means unlimited there, our highest number here
    inflight = _integer(env, "max_inflight", DEFAULT_CONCURRENCY, 0, MAX_CONCURRENCY)
    return inflight or MAX_CONCURRENCY


def spec_from_json(data: Mapping[str, Any]) -> FunctionSpec:
    """Build a spec from a FunctionDeployment object (the API's and the store's form); raise InvalidInput."""

    def text(key: str) -> str:
        value = data.get(key) or ""
        if not isinstance(value, str):
            raise InvalidInput(f"{key}: expected text, got {type(value).__name__}")
        return value

    def table(key: str) -> dict[str, str]:
        value = data.get(key) or {}
        if not isinstance(value, Mapping) or not all(
            isinstance(k, str) and isinstance(v, str) for k, v in value.items()
        ):
            raise InvalidInput(f"{key}: expected an object whose values are text")
        return dict(value)

    def texts(key: str) -> tuple[str, ...]:
        value = data.get(key) or []
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise InvalidInput(f"{key}: expected a list of texts")
        return tuple(value)

    return FunctionSpec(
        name=text("service"),
        image=text("image"),
        namespace=text("namespace") or DEFAULT_NAMESPACE,
        env_process=text("envProcess"),
        env_vars=table("envVars"),
        labels=table("labels"),
        annotations=table("annotations"),
        constraints=texts("constraints"),
        secrets=texts("secrets"),
        limits=table("limits"),
        requests=table("requests"),
        read_only_root_filesystem=bool(data.get("readOnlyRootFilesystem")),
    )


def spec_to_json(spec: FunctionSpec) -> dict[str, Any]:
    """The FunctionDeployment object of `spec`; `spec_from_json` reads it back."""
    return {
        "service": spec.name,
        "image": spec.image,
        "namespace": spec.namespace,
        "envProcess": spec.env_process,
        "envVars": dict(spec.env_vars),
        "labels": dict(spec.labels),
        "annotations": dict(spec.annotations),
        "constraints": list(spec.constraints),
        "secrets": list(spec.secrets),
        "limits": dict(spec.limits),
        "requests": dict(spec.requests),
        "readOnlyRootFilesystem": spec.read_only_root_filesystem,
    }
