"""Prometheus text with the metric names of OpenFaaS's gateway (https://docs.openfaas.com/architecture/metrics)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from rescoldo.control.fleet.awake import Awake
from rescoldo.control.fleet.lifetimes import Lifetimes
from rescoldo.control.observe.coldtimes import BOUNDS, ColdTimes
from rescoldo.control.observe.recorder import Recorder
from rescoldo.control.observe.scaling_metrics import ScalingMetrics
from rescoldo.model.calls import BUCKETS_MS
from rescoldo.model.coldstart import FAILURES, PHASES
from rescoldo.model.names import FunctionId
from rescoldo.node.protocol import SparePool
from rescoldo.store.protocol import Condition

STARTED = "gateway_function_invocation_started"


@dataclass(frozen=True, slots=True)
class Waking:
    """Counts of held requests and of wakes since the controller's start."""

    held: int  # requests held now
    holds: int  # requests that asked to be held
    wakes: int  # successful wakes
    failed: Mapping[str, int]  # failed wakes by reason


class GatewayMetrics(Collector):
    """Metrics of calls and instances. Built anew for each scrape from counts that exist anyway, so that a call costs
    the metrics nothing."""

    def __init__(self, recorder: Recorder, replicas: Mapping[FunctionId, int], lifetimes: Lifetimes) -> None:
        self._ended = {(name, status): sums for name, alike in recorder.ended.items() for status, sums in alike.items()}
        self._totals = recorder.run_totals()
        self._replicas = replicas
        self._instances = lifetimes.counts()
        self._seconds = lifetimes.seconds(asyncio.get_running_loop().time())

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of OpenFaaS's gateway, and ours of instances."""
        seconds = HistogramMetricFamily(
            "gateway_functions_seconds", "Duration of a call, including its wait.", labels=["function_name", "code"]
        )
        invocations = CounterMetricFamily(
            "gateway_function_invocation", "Calls that ended.", labels=["function_name", "code"]
        )
        for (function, status), sums in sorted(self._ended.items()):
            labels = [function, str(status)]
            below = list(zip([*(str(ms / 1000) for ms in BUCKETS_MS), "+Inf"], accumulate(sums.buckets), strict=True))
            if below[-1][1]:  # else a cluster's worker has counted them, and its own metrics have their times
                seconds.add_metric(labels, buckets=below, sum_value=(sums.queue_ms + sums.run_ms) / 1000)
            invocations.add_metric(labels, sums.calls)
        yield seconds
        yield invocations
        # the name is OpenFaaS's; our edge reports only ended calls, since nothing of ours sees a warm call begin
        text = "Calls that ended, with any code. Calls in progress are not counted yet."
        yield _by_function(GaugeMetricFamily, STARTED, text, self._totals)
        yield _by_function(GaugeMetricFamily, "gateway_service_count", "Instances.", self._replicas)
        # unlike gateway_service_count, this includes starting and stopping instances: they hold memory, too
        text = "Instances, including starting and stopping ones."
        yield _by_function(GaugeMetricFamily, "rescoldo_instances", text, self._instances)
        text = "Total lifetime of instances in seconds."
        yield _by_function(CounterMetricFamily, "rescoldo_instance_seconds", text, self._seconds)


def _by_function(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily], name: str, text: str, values: Mapping[FunctionId, float]
) -> Metric:
    family = kind(name, text, labels=["function_name"])
    for function, value in sorted(values.items()):
        family.add_metric([function], value)
    return family


class WakeMetrics(Collector):
    """Metrics of holds and wakes, which OpenFaaS does not have."""

    def __init__(self, times: ColdTimes, waking: Waking) -> None:
        self._times = times
        self._waking = waking

    def collect(self) -> Iterator[Metric]:
        """Yield counts of holds and wakes, and histograms of cold calls."""
        waking = self._waking
        yield GaugeMetricFamily("rescoldo_held_requests", "Requests held for a wake.", value=waking.held)
        yield CounterMetricFamily("rescoldo_holds", "Requests that needed a wake, held or refused.", value=waking.holds)
        yield CounterMetricFamily("rescoldo_wakes", "Functions woken from zero.", value=waking.wakes)
        failed = CounterMetricFamily("rescoldo_failed_wakes", "Wakes that failed.", labels=["reason"])
        for reason in FAILURES:
            failed.add_metric([reason], waking.failed.get(reason, 0))
        yield failed
        phases = HistogramMetricFamily(
            "rescoldo_cold_start_seconds", "Phases of a cold start, until the first byte.", labels=["phase"]
        )
        for phase in PHASES:
            phases.add_metric([phase], *self._histogram(phase))
        yield phases
        whole = HistogramMetricFamily("rescoldo_cold_call_seconds", "Duration of a cold start, until the first byte.")
        whole.add_metric([], *self._histogram("total"))
        yield whole

    def _histogram(self, name: str) -> tuple[list[tuple[str, float]], float]:
        below, total = self._times.histogram(name)
        return list(zip([*(str(us / 1e6) for us in BOUNDS), "+Inf"], below, strict=True)), total


class SpareMetrics(Collector):
    """Metrics of the node's spare sandboxes; none while the node is unreachable."""

    def __init__(self, spares: SparePool | None) -> None:
        self._spares = spares

    def collect(self) -> Iterator[Metric]:
        """Yield the spares that are ready and wanted."""
        if (spares := self._spares) is not None:
            yield GaugeMetricFamily("rescoldo_spares_ready", "Spare sandboxes.", value=spares.ready)
            yield GaugeMetricFamily("rescoldo_spares_wanted", "Spares that recent bursts needed.", value=spares.wanted)


class DatabaseMetrics(Collector):
    """Metrics of the database: whether it can be written, and how often it was restored."""

    def __init__(self, condition: Condition) -> None:
        self._condition = condition

    def collect(self) -> Iterator[Metric]:
        """Yield the database's condition."""
        text = "1 if the database can be written, else 0."
        yield GaugeMetricFamily("rescoldo_database_ok", text, value=not self._condition.problem)
        text = "Times that a lost database was restored from memory."
        yield CounterMetricFamily("rescoldo_database_rewritten", text, value=self._condition.rewritten)


async def render(
    recorder: Recorder,
    replicas: Mapping[FunctionId, int],
    lifetimes: Lifetimes,
    waking: Waking,
    spares: SparePool | None,
    awake: Mapping[FunctionId, Awake],
    condition: Condition,
) -> bytes:
    """The text of all metrics. A thread writes it: with 10,000 functions that takes a second, and wakes must not wait
    so long. Before that, the collectors copy what the event loop changes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(GatewayMetrics(recorder, replicas, lifetimes))
    registry.register(WakeMetrics(recorder.cold.all, waking))
    registry.register(SpareMetrics(spares))
    registry.register(ScalingMetrics(awake))
    registry.register(DatabaseMetrics(condition))
    return await asyncio.to_thread(_text, registry)


def _text(registry: CollectorRegistry) -> bytes:
    """The exposition format. The library cannot write a counter whose name does not end in `_total`, and OpenFaaS has
    one. It is made as a gauge, and this rewrites its type: alerting rules ask for its rate, which tools refuse for
    a gauge."""
    return generate_latest(registry).replace(f"# TYPE {STARTED} gauge".encode(), f"# TYPE {STARTED} counter".encode())
