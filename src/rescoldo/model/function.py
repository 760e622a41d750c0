"""A deployment: FunctionSpec as its user sends it, Function as the platform keeps it, and the policy of its labels.

Sources: https://docs.openfaas.com/reference/rest-api and the types in https://github.com/openfaas/faas-provider for the
deployment, https://docs.openfaas.com/architecture/autoscaling for its labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rescoldo.model.calls import FailedCall
from rescoldo.model.coldstart import ColdStarts
from rescoldo.model.cors import origins
from rescoldo.model.errors import InvalidInput
from rescoldo.model.explanation import Explanation
from rescoldo.model.limits import LIMIT_KEYS, OURS, Limits, check_requests, limits_of
from rescoldo.model.metadata import check_image, check_number, check_table, check_text, check_variables
from rescoldo.model.names import DEFAULT_NAMESPACE, FunctionId, check_name, check_secret_name, function_id
from rescoldo.model.program import Start
from rescoldo.model.scaling import (
    PLATFORM_DEFAULTS,
    SCALE,
    SCALING_KEYS,
    Scaling,
    ScalingDefaults,
    replica_bounds,
    retention,
    scaling_of,
)
from rescoldo.model.standing import State
from rescoldo.model.values import choice, seconds, whole_number

DEFAULT_IDLE_WINDOW = 10.0  # seconds; holds 13.6 % of always-on memory on the Azure sample
DEFAULT_READY_TIMEOUT = 15.0  # seconds from wake to ready
MAX_READY_TIMEOUT = 110.0  # seconds; the edge holds a request for 120
DEFAULT_GRACE = 5.0  # seconds between SIGTERM and SIGKILL
MOST_GRACE = 600.0
MOST_STRICT_GRACE = 8.0  # with max-strict: a function's instances end before its grant does (link/grants.py)
DEFAULT_SCALE_FACTOR = 20  # percent of the maximum that an alert adds
DEFAULT_LIMITS = Limits()
DEFAULT_START = Start()
IDLE_WINDOW = OURS + "idle-window"
LEAST_IDLE_WINDOW, MAX_IDLE_WINDOW = 0.05, 7 * 86400.0  # seconds
MAX_SECRETS = 50  # of one function
# our annotations, without the rescoldo.dev/ before each
ANNOTATIONS = frozenset(
    (*LIMIT_KEYS, *SCALING_KEYS, "cors", "grace", "idle-window", "max-strict", "ready-timeout", "rollout")
)


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """A deployment as its user sent it; every field but the first two may be empty."""

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
    """The rules by which a function runs and scales, from its labels, annotations and environment."""

    min_replicas: int = 0
    max_replicas: int = 20
    sleeps: bool = True  # False: it stays awake with min_replicas (at least one)
    idle_window: float = DEFAULT_IDLE_WINDOW  # seconds
    ready_timeout: float = DEFAULT_READY_TIMEOUT  # seconds from start to ready
    grace: float = DEFAULT_GRACE  # seconds between SIGTERM and SIGKILL
    limits: Limits = field(default_factory=Limits)
    start: Start = DEFAULT_START  # of its instances; the bundle's kind fills in what the deployment leaves open
    checked: bool = True  # a new revision must have started before it takes traffic
    scale_factor: int = DEFAULT_SCALE_FACTOR  # percent of max_replicas that an alert adds; 0: alerts change nothing
    scaling: Scaling = field(default_factory=Scaling)
    cors: tuple[str, ...] = ()  # origins whose pages may read the platform's own answers; "*": all
    max_strict: bool = False  # never more than max_replicas instances, those that end included, in the whole cluster
    openfaas_rule: bool = False  # policy/openfaasrule.py scales it, too

    @property
    def floor(self) -> int:
        """Instances kept while nothing calls the function."""
        return 0 if self.sleeps else max(1, self.min_replicas)

    @property
    def woken(self) -> int:
        """Instances that a wake from zero starts."""
        return max(1, self.min_replicas)

    @property
    def at_port(self) -> bool:
        """Whether the instances take requests at a TCP port."""
        return self.start.at_port


@dataclass(frozen=True, slots=True)
class Function:
    """A deployed function: its current revision, its bundle and its times."""

    spec: FunctionSpec
    digest: str  # of the bundle that the image name pointed to at the deployment
    created_at: float  # Unix seconds of the first deployment of this name
    revision: int = 1  # counts the deployments of this name, including failed ones
    revised_at: float = 0.0  # Unix seconds of this revision's deployment
    generation: int = 0  # grows when the input of a start changes without a deployment: a secret's value
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
    invocations: int  # calls ended since the first deployment
    cpu: int | None = None  # millicores used recently; None: not requested or unknown
    memory: int | None = None  # bytes held by its instances; None: not requested or unknown
    cold_starts: ColdStarts | None = None  # None: not requested
    why: Explanation | None = None  # None: not requested
    failures: Sequence[FailedCall] | None = None  # recent failed calls, oldest first; None: not requested
    policy: FunctionPolicy = field(default_factory=FunctionPolicy)
    limits: Limits | None = None  # the limits in force, its own and the platform's; None: not requested
    isolation: Mapping[str, str] | None = None  # what keeps its instances apart; None: not requested or unknown
    state: State = State.ASLEEP
    reason: str = ""  # why it is failing
    notes: Sequence[str] = ()  # settings of its deployment without effect; empty in lists


def policy_of(
    spec: FunctionSpec,
    start: Start,
    defaults: Limits = DEFAULT_LIMITS,
    scaling: ScalingDefaults = PLATFORM_DEFAULTS,
) -> FunctionPolicy:
    """Read the policy of `spec`; raise InvalidInput naming the label, annotation or variable that is not valid.

    `start` is the part that the deployment's kind has read (`policy_of` in kinds/deployment.py does both). `defaults`
    (the platform's limits) and `scaling` apply where the function sets nothing. `com.openfaas.scale.zero` decides alone
    if it is set; otherwise a minimum of one or more keeps the function awake, because its author asked for that.
    """
    labels, notes, env = spec.labels, spec.annotations, spec.env_vars
    minimum, maximum = replica_bounds(labels, notes, scaling)
    zero = labels.get(SCALE + "zero", "").strip().lower()
    if zero not in ("", "true", "false"):
        raise InvalidInput(f"label {SCALE}zero: {zero!r} is not allowed; use true or false")
    strict = choice(notes, OURS + "max-strict", "false", "true") == "true"
    limits = limits_of(notes, env, spec.limits, spec.requests, defaults)
    return FunctionPolicy(
        min_replicas=minimum,
        max_replicas=maximum,
        sleeps=zero == "true" or (zero == "" and minimum == 0),
        idle_window=_idle_window(labels, notes),
        ready_timeout=seconds(notes, OURS + "ready-timeout", DEFAULT_READY_TIMEOUT, 0.1, MAX_READY_TIMEOUT),
        grace=seconds(notes, OURS + "grace", DEFAULT_GRACE, 0.0, MOST_STRICT_GRACE if strict else MOST_GRACE),
        limits=limits,
        start=start,
        checked=choice(notes, OURS + "rollout", "checked", "immediate") == "checked",
        scale_factor=whole_number(labels, SCALE + "factor", DEFAULT_SCALE_FACTOR, 0, 100),
        scaling=scaling_of(labels, notes, limits.concurrency, scaling),
        max_strict=strict,
        cors=origins(notes, OURS + "cors"),
        openfaas_rule=scaling.openfaas_rule and all(labels.get(SCALE + bound, "").strip() for bound in ("min", "max")),
    )


def check_fields(spec: FunctionSpec) -> None:
    """Check the parts of a new deployment that `policy_of` does not read; raise InvalidInput."""
    check_name(spec.name)
    check_name(spec.namespace, "namespace")
    if not spec.image:
        raise InvalidInput(f"function {spec.name!r}: image is required")
    _check_texts(spec)
    if len(spec.secrets) > MAX_SECRETS:
        raise InvalidInput(f"{len(spec.secrets)} secrets are named; at most {MAX_SECRETS} are allowed")
    for name in spec.secrets:
        check_secret_name(name)
    check_requests(spec.limits, spec.requests)
    _check_keys(spec.annotations)


def _check_texts(spec: FunctionSpec) -> None:
    check_image(spec.image)
    check_text("fprocess", spec.env_process, lines=True)
    check_variables(spec.env_vars)
    check_table("label", spec.labels)
    check_table("annotation", spec.annotations, lines=True)
    check_table("limit", spec.limits)
    check_table("request", spec.requests)
    check_number("constraints", spec.constraints)
    for constraint in spec.constraints:
        check_text("constraint", constraint)


def _check_keys(notes: Mapping[str, str]) -> None:
    """Raise InvalidInput for an unknown annotation of ours: a misspelled limit would leave the function unlimited."""
    for key in notes:
        if key.startswith(OURS) and key.removeprefix(OURS) not in ANNOTATIONS:
            raise InvalidInput(f"{key[:80]}: unknown annotation; {OURS} has {', '.join(sorted(ANNOTATIONS))}")


def _idle_window(labels: Mapping[str, str], notes: Mapping[str, str]) -> float:
    """Return the idle window in seconds. Knative's retention of 0 s, its default, counts as unset."""
    usual = seconds(labels, SCALE + "zero-duration", DEFAULT_IDLE_WINDOW, LEAST_IDLE_WINDOW, MAX_IDLE_WINDOW)
    if kept := retention(notes):
        usual = max(LEAST_IDLE_WINDOW, kept)
    return seconds(notes, IDLE_WINDOW, usual, LEAST_IDLE_WINDOW, MAX_IDLE_WINDOW)


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
    """Return the FunctionDeployment object of `spec`; `spec_from_json` reads it back."""
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
