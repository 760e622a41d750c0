"""Prometheus metrics of the scaler, for awake functions only.

Their names follow Knative's of a revision
(https://knative.dev/docs/serving/observability/metrics/serving-metrics).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from rescoldo.control.fleet.awake import Awake
from rescoldo.model.names import FunctionId

LABELS = ("function_name", "metric")


class ScalingMetrics(Collector):
    """Metrics of the scaler's decisions."""

    def __init__(self, awake: Mapping[FunctionId, Awake]) -> None:
        self._awake = sorted(awake.items())

    def collect(self) -> Iterator[Metric]:
        """Yield a gauge for each number, with the metric that the function scales by as a label."""
        yield self._gauge("rescoldo_instances_desired", "Instances wanted.", lambda one: one.wanted)
        yield self._gauge("rescoldo_instances_ready", "Instances that take requests.", lambda one: len(one.servers))
        yield self._gauge("rescoldo_load_target", "Target load per instance.", lambda one: one.policy.scaling.aim)
        yield self._gauge("rescoldo_load_stable", "Average load over the stable window.", _stable)
        yield self._gauge("rescoldo_load_panic", "Average load over the panic window.", _panic)
        yield self._gauge("rescoldo_panic_mode", "1 in panic mode, else 0.", _panicking)

    def _gauge(self, name: str, text: str, value: Callable[[Awake], float]) -> Metric:
        family = GaugeMetricFamily(name, text, labels=LABELS)
        for function, one in self._awake:
            family.add_metric([function, one.policy.scaling.metric], value(one))
        return family


def _stable(awake: Awake) -> float:
    decision = awake.scale.decision if awake.scale is not None else None
    return decision.stable if decision is not None else 0.0


def _panic(awake: Awake) -> float:
    decision = awake.scale.decision if awake.scale is not None else None
    return decision.panic if decision is not None else 0.0


def _panicking(awake: Awake) -> float:
    return float(awake.scale is not None and awake.scale.state.panic_at is not None)
