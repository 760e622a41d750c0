"""Reads a function's scaling settings, between one instance and many, from its annotations and labels.

Sources: https://knative.dev/docs/serving/autoscaling/kpa-specific and https://docs.openfaas.com/architecture/autoscaling.
A key is looked up as `rescoldo.dev/KEY`, then as Knative's `autoscaling.knative.dev/KEY` in either of its spellings,
then as OpenFaaS's label. A function with one of OpenFaaS's labels type, target or target-proportion gets OpenFaaS's
defaults for the others: a target of 50, of which 90 % are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rescoldo.model.errors import InvalidInput
from rescoldo.model.limits import FLAG, OURS, UNLIMITED_CONCURRENCY
from rescoldo.model.values import choice, number, seconds, whole_number

KNATIVE = "autoscaling.knative.dev/"
SCALE = "com.openfaas.scale."

CONCURRENCY, RPS, CPU = "concurrency", "rps", "cpu"
LINEAR, WEIGHTED = "linear", "weighted-exponential"

# annotations, ours and Knative's; the last two are ours alone
SCALING_KEYS = (
    "class", "metric", "target", "target-utilization-percentage", "min-scale", "max-scale", "initial-scale",
    "activation-scale", "scale-down-delay", "window", "panic-window-percentage", "panic-threshold-percentage",
    "scale-to-zero-pod-retention-period", "metric-aggregation-algorithm", "max-scale-up-rate", "max-scale-down-rate",
)  # fmt: skip

MAX_REPLICAS = 100
DEFAULT_MAXIMUM = 20
WINDOWS, DELAYS = (6.0, 3600.0), (0.0, 3600.0)  # seconds, lowest and highest
DEFAULT_TARGET = 100.0  # requests at once in an instance without a limit
DEFAULT_RPS_TARGET = 200.0
OPENFAAS_TARGET = 50.0
OPENFAAS_PROPORTION = 0.90
_TYPES = {"capacity": CONCURRENCY, "rps": RPS, "cpu": CPU}  # com.openfaas.scale.type
_CLASSES = ("kpa.autoscaling.knative.dev", "hpa.autoscaling.knative.dev")  # the metric alone decides


@dataclass(frozen=True, slots=True)
class Scaling:
    """The settings of `policy/scaling.py`. The defaults are Knative's, except that a wake needs no activation."""

    metric: str = CONCURRENCY  # or RPS, CPU
    target: float = 32.0  # for each instance: requests at once, requests a second, or millicores
    utilisation: float = 0.70  # share of the target that is used before another instance starts
    stable_window: float = 60.0  # seconds
    panic_window: float = 6.0  # seconds
    panic_threshold: float = 2.0  # a panic begins when this many times the running instances are wanted
    max_up_rate: float = 1000.0  # one decision at most multiplies the running instances by this
    max_down_rate: float = 2.0  # one decision at most divides them by this
    down_delay: float = 0.0  # seconds for which a lower number must be enough before a scale-down
    initial: int = 1  # instances that the first wake of a deployment starts
    activation: int = 1  # instances that any other wake starts
    aggregation: str = LINEAR  # or WEIGHTED: newer samples count more

    @property
    def aim(self) -> float:
        """The load that one instance should have, in the metric's unit."""
        return self.target * self.utilisation


@dataclass(frozen=True, slots=True)
class ScalingDefaults:
    """A platform's scaling defaults for its functions."""

    maximum: int = DEFAULT_MAXIMUM  # instances
    utilisation: float = 0.70  # unless one of OpenFaaS's labels brings OpenFaaS's own default
    stable_window: float = 60.0  # seconds
    down_delay: float = 0.0  # seconds
    openfaas_rule: bool = False  # policy/openfaasrule.py, for functions with OpenFaaS's labels min and max


PLATFORM_DEFAULTS = ScalingDefaults()
_DEFAULTS = Scaling()


def platform_scaling(flags: Mapping[str, str], *, openfaas_rule: bool = False) -> ScalingDefaults:
    """Return the scaling defaults from the flags of `rescoldo serve` (`--default-max-scale` and so on) and their
    values. Raises InvalidInput."""
    usual = PLATFORM_DEFAULTS
    return ScalingDefaults(
        whole_number(flags, FLAG + "max-scale", usual.maximum, 1, MAX_REPLICAS),
        number(flags, FLAG + "utilization", 100 * usual.utilisation, 1, 100) / 100,
        seconds(flags, FLAG + "window", usual.stable_window, *WINDOWS),
        seconds(flags, FLAG + "scale-down-delay", usual.down_delay, *DELAYS),
        openfaas_rule,
    )


def scaling_of(
    labels: Mapping[str, str], notes: Mapping[str, str], concurrency: int,
    defaults: ScalingDefaults = PLATFORM_DEFAULTS,
) -> Scaling:
    """Read a function's scaling settings; raise InvalidInput naming the key.

    `concurrency` is an instance's hard limit, `defaults` are the platform's.
    """
    choice(*_found(notes, "class"), *_CLASSES)
    openfaas = any(labels.get(SCALE + key, "").strip() for key in ("type", "target", "target-proportion"))
    kind = choice(labels, SCALE + "type", *_TYPES)
    usual = _TYPES[kind]
    metric = choice(*_found(notes, "metric"), usual, *(one for one in (CONCURRENCY, RPS, CPU) if one != usual))
    proportion = OPENFAAS_PROPORTION if openfaas else defaults.utilisation
    proportion = number(labels, SCALE + "target-proportion", proportion, 0.01, 1.0)
    stable = seconds(*_found(notes, "window"), defaults.stable_window, *WINDOWS)
    delay = seconds(labels, SCALE + "down.window", defaults.down_delay, 0.0, 300.0)
    return Scaling(
        metric=metric,
        target=_target(labels, notes, metric, concurrency, openfaas),
        utilisation=number(*_found(notes, "target-utilization-percentage"), 100 * proportion, 1, 100) / 100,
        stable_window=stable,
        panic_window=stable * number(*_found(notes, "panic-window-percentage"), 10, 1, 100) / 100,
        panic_threshold=number(*_found(notes, "panic-threshold-percentage"), 200, 110, 1000) / 100,
        max_up_rate=number(notes, OURS + "max-scale-up-rate", _DEFAULTS.max_up_rate, 1.1, 1000.0),
        max_down_rate=number(notes, OURS + "max-scale-down-rate", _DEFAULTS.max_down_rate, 1.1, 1000.0),
        down_delay=seconds(*_found(notes, "scale-down-delay"), delay, *DELAYS),
        initial=whole_number(*_found(notes, "initial-scale"), 1, 0, MAX_REPLICAS),
        activation=whole_number(*_found(notes, "activation-scale"), 1, 1, MAX_REPLICAS),
        aggregation=choice(*_found(notes, "metric-aggregation-algorithm"), LINEAR, WEIGHTED),
    )


def replica_bounds(
    labels: Mapping[str, str], notes: Mapping[str, str], defaults: ScalingDefaults = PLATFORM_DEFAULTS
) -> tuple[int, int]:
    """Return a function's minimum and maximum of instances; raise InvalidInput."""
    low = whole_number(labels, SCALE + "min", 0, 0, MAX_REPLICAS)
    minimum = whole_number(*_found(notes, "min-scale"), low, 0, MAX_REPLICAS)
    high = whole_number(labels, SCALE + "max", max(defaults.maximum, minimum), 1, MAX_REPLICAS)
    maximum = whole_number(*_found(notes, "max-scale"), high, 0, MAX_REPLICAS) or MAX_REPLICAS  # Knative's 0: any
    if maximum < minimum:
        raise InvalidInput(
            f"{_said(labels, notes, 'max')}: {maximum} is below {_said(labels, notes, 'min')}, {minimum}; raise the "
            "maximum or lower the minimum"
        )
    return minimum, maximum


def _said(labels: Mapping[str, str], notes: Mapping[str, str], bound: str) -> str:
    """Return the key that sets a bound of instances, "min" or "max"."""
    _, key = _found(notes, f"{bound}-scale")
    return key if notes.get(key, "").strip() or not labels.get(SCALE + bound, "").strip() else SCALE + bound


def check_starts(scaling: Scaling, maximum: int) -> None:
    """Raise InvalidInput if a wake would start more instances than `maximum`."""
    for key, asked in (("initial-scale", scaling.initial), ("activation-scale", scaling.activation)):
        if asked > maximum:
            raise InvalidInput(f"{key}: {asked} is above the maximum of instances ({maximum}); raise max-scale")


def retention(notes: Mapping[str, str]) -> float:
    """Return the seconds for which Knative would keep the last instance of an idle function; 0 if unset."""
    return seconds(*_found(notes, "scale-to-zero-pod-retention-period"), 0.0, 0.0, 3600.0)


def _target(
    labels: Mapping[str, str], notes: Mapping[str, str], metric: str, concurrency: int, openfaas: bool
) -> float:
    unlimited = concurrency >= UNLIMITED_CONCURRENCY
    default = {CONCURRENCY: DEFAULT_TARGET if unlimited else float(concurrency), RPS: DEFAULT_RPS_TARGET, CPU: 0.0}
    least, most = 0.01, 1_000_000.0
    target = number(labels, SCALE + "target", OPENFAAS_TARGET if openfaas else default[metric], least, most)
    values, key = _found(notes, "target")
    target = number(values, key, target, least, most)
    if not target:
        raise InvalidInput(f"{key}: the metric cpu needs a target in millicores of one instance, for example 500")
    return min(target, float(concurrency)) if metric == CONCURRENCY else target  # no instance gets more


def _found(notes: Mapping[str, str], name: str) -> tuple[Mapping[str, str], str]:
    """Return the annotations, and the key among them that sets `name`, ours first; our key if none does."""
    first, *rest = name.split("-")
    camel = first + "".join(part.capitalize() for part in rest)
    keys = (OURS + name, KNATIVE + name, KNATIVE + camel)
    return notes, next((key for key in keys if notes.get(key, "").strip()), keys[0])
