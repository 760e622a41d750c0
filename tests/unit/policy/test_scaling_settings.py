"""Annotations and labels that set how a function scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rescoldo.kinds.deployment import check_spec, policy_of
from rescoldo.model.errors import InvalidInput
from rescoldo.model.function import FunctionPolicy, FunctionSpec
from rescoldo.model.scaling import Scaling, ScalingDefaults, replica_bounds, scaling_of

KNATIVE = "autoscaling.knative.dev/"
OPENFAAS = "com.openfaas.scale."


def scaling(
    notes: Mapping[str, str] | None = None, labels: Mapping[str, str] | None = None, limit: int = 32
) -> Scaling:
    return scaling_of(
        {OPENFAAS + key: value for key, value in (labels or {}).items()},
        {KNATIVE + key: value for key, value in (notes or {}).items()},
        limit,
    )


def policy(**notes: str) -> FunctionPolicy:
    annotations = {KNATIVE + key.replace("_", "-"): value for key, value in notes.items()}
    return policy_of(FunctionSpec("fn", "image", annotations=annotations))


def test_by_default_a_function_scales_by_concurrency_at_seventy_percent_of_its_limit() -> None:
    assert scaling() == Scaling()
    assert scaling(limit=10).aim == 7.0


def test_a_function_without_a_limit_scales_as_with_a_limit_of_a_hundred() -> None:
    assert scaling(limit=10_000).aim == 70.0


@pytest.mark.parametrize(
    ("notes", "field", "value"),
    [
        ({"metric": "rps"}, "target", 200.0),
        ({"metric": "rps", "target": "50.5"}, "target", 50.5),
        ({"target": "500"}, "target", 32.0),  # no load exceeds the hard limit
        ({"metric": "cpu", "target": "250"}, "target", 250.0),
        ({"target-utilization-percentage": "85"}, "utilisation", 0.85),
        ({"targetUtilizationPercentage": "85"}, "utilisation", 0.85),
        ({"window": "20s"}, "stable_window", 20.0),
        ({"window": "20s"}, "panic_window", 2.0),
        ({"panic-window-percentage": "50"}, "panic_window", 30.0),
        ({"panicThresholdPercentage": "150"}, "panic_threshold", 1.5),
        ({"scale-down-delay": "15m"}, "down_delay", 900.0),
        ({"initialScale": "4"}, "initial", 4),
        ({"activation-scale": "2"}, "activation", 2),
        ({"metric-aggregation-algorithm": "weighted-exponential"}, "aggregation", "weighted-exponential"),
        ({"class": "kpa.autoscaling.knative.dev"}, "metric", "concurrency"),
    ],
)
def test_knatives_annotations_are_understood(notes: dict[str, str], field: str, value: object) -> None:
    found = getattr(scaling(notes), field)
    assert found == (pytest.approx(value) if isinstance(value, float) else value)


@pytest.mark.parametrize(
    ("labels", "metric", "target", "utilisation"),
    [
        ({"type": "capacity", "target": "10"}, "concurrency", 10.0, 0.9),
        ({"type": "capacity"}, "concurrency", 32.0, 0.9),  # 50 by default, but the limit is 32
        ({"type": "rps"}, "rps", 50.0, 0.9),
        ({"type": "cpu", "target": "500", "target-proportion": "0.5"}, "cpu", 500.0, 0.5),
        ({"target": "20"}, "concurrency", 20.0, 0.9),
    ],
)
def test_openfaas_labels_are_understood(labels: dict[str, str], metric: str, target: float, utilisation: float) -> None:
    found = scaling(labels=labels)
    assert (found.metric, found.target, found.utilisation) == (metric, target, utilisation)


def test_openfaas_down_window_is_the_scale_down_delay() -> None:
    assert scaling(labels={"down.window": "2m"}) == Scaling(down_delay=120.0)


def test_settings_that_a_function_omits_are_the_platforms() -> None:
    defaults = ScalingDefaults(maximum=5, utilisation=0.9, stable_window=30.0, down_delay=60.0)
    spec = FunctionSpec("fn", "image")
    found = policy_of(spec, scaling=defaults)
    assert (found.max_replicas, found.scaling) == (
        5, Scaling(utilisation=0.9, stable_window=30.0, panic_window=3.0, down_delay=60.0)
    )
    own = {KNATIVE + "max-scale": "7", KNATIVE + "window": "10s", OPENFAAS + "down.window": "0s"}
    found = policy_of(replace(spec, annotations=own, labels=own), scaling=defaults)
    assert (found.max_replicas, found.scaling.stable_window, found.scaling.down_delay) == (7, 10.0, 0.0)


def test_our_own_annotations_take_precedence() -> None:
    found = scaling_of({}, {"rescoldo.dev/metric": "rps", KNATIVE + "metric": "concurrency"}, 32)
    assert found.metric == "rps"


def test_knatives_bounds_are_understood() -> None:
    found = policy(min_scale="2", maxScale="5")
    assert (found.min_replicas, found.max_replicas, found.sleeps) == (2, 5, False)
    assert policy(max_scale="0").max_replicas == 100  # 0 means no limit: ours applies


def test_the_bounds_may_come_from_both_systems_and_must_not_cross() -> None:
    assert replica_bounds({OPENFAAS + "min": "3"}, {KNATIVE + "max-scale": "7"}) == (3, 7)
    with pytest.raises(InvalidInput, match=r"^autoscaling\.knative\.dev/max-scale: 2 is below com\S+min, 3;"):
        replica_bounds({OPENFAAS + "min": "3"}, {KNATIVE + "max-scale": "2"})
    with pytest.raises(InvalidInput, match=r"^com\S+max: 2 is below rescoldo\.dev/min-scale, 3;"):
        replica_bounds({OPENFAAS + "min": "1", OPENFAAS + "max": "2"}, {"rescoldo.dev/min-scale": "3"})


@pytest.mark.parametrize("key", ["initial-scale", "activation-scale"])
def test_a_wake_cannot_start_more_instances_than_the_maximum(key: str) -> None:
    notes = {"rescoldo.dev/max-scale": "2", f"rescoldo.dev/{key}": "3"}
    with pytest.raises(InvalidInput, match=rf"^{key}: 3 is above the maximum of instances \(2\)"):
        check_spec(FunctionSpec("fn", "image", annotations=notes))
    check_spec(FunctionSpec("fn", "image", annotations=notes | {f"rescoldo.dev/{key}": "2"}))


def test_the_retention_of_the_last_instance_is_the_idle_window() -> None:
    name = "scale_to_zero_pod_retention_period"
    assert policy(**{name: "90s"}).idle_window == 90.0
    assert policy(**{name: "0s"}).idle_window == 10.0


@pytest.mark.parametrize(
    ("notes", "labels", "told"),
    [
        ({"metric": "memory"}, {}, r"autoscaling\.knative\.dev/metric: 'memory' .* use concurrency, rps or cpu"),
        ({"metric": "cpu"}, {}, "needs a target in millicores"),
        ({"target": "0"}, {}, "use a number from 0.01"),
        ({"target": "x"}, {}, "use a number from 0.01"),
        ({"target": "١"}, {}, "use a number"),
        ({"target": "1" * 400}, {}, "use a number"),
        ({"window": "5s"}, {}, "use 6s to 3600s"),
        ({"scale-down-delay": "2h"}, {}, "use 0s to 3600s"),
        ({"panic-window-percentage": "0"}, {}, "use a number from 1 to 100"),
        ({"panic-threshold-percentage": "100"}, {}, "use a number from 110 to 1000"),
        ({"activation-scale": "0"}, {}, "use a whole number from 1 to 100"),
        ({"initialScale": "1.5"}, {}, r"initialScale: '1\.5'"),
        ({"class": "mine"}, {}, "use kpa"),
        ({"metric-aggregation-algorithm": "median"}, {}, "use linear or weighted-exponential"),
        ({}, {"type": "queue"}, r"com\.openfaas\.scale\.type: 'queue' is not allowed; use capacity, rps or cpu"),
        ({}, {"target-proportion": "1.5"}, "target-proportion"),
        ({}, {"down.window": "10m"}, "use 0s to 300s"),
    ],
)
def test_an_invalid_value_is_refused_with_its_key_and_the_allowed_values(
    notes: dict[str, str], labels: dict[str, str], told: str
) -> None:
    with pytest.raises(InvalidInput, match=told):
        scaling(notes, labels)


@given(st.sampled_from(["target", "window", "metric", "initial-scale"]), st.text(max_size=30))
def test_any_text_is_parsed_or_refused(key: str, text: str) -> None:
    try:
        found = scaling({key: text})
    except InvalidInput:
        return
    assert found.aim > 0
