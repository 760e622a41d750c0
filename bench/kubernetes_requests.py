"""Counts the requests that the API server has taken from pods outside of kube-system, by its own metrics."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from support.testcluster import kubectl

# Each request is dispatched by the flow schema that fits its user: this one has the service accounts of all namespaces
# but kube-system, in the test cluster ours alone. Requests that the API server counts by kind have no user.
METRIC = "apiserver_flowcontrol_dispatched_requests_total"
SCHEMA = ("flow_schema", "service-accounts")
KINDS = "apiserver_request_total"
OURS = {"functions", "controllerrevisions", "secrets", "pods"}  # kinds that control and gateways read or write
_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? ([\d.e+-]+|NaN)(?: \d+)?")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Labels = dict[str, str]


def scrape() -> str:
    """Return the API server's metrics."""
    return kubectl("get", "--raw", "/metrics")


def ours(text: str) -> float:
    """Return how many requests our service accounts have made so far."""
    return sum(value for labels, value in samples(text, METRIC) if labels.get(SCHEMA[0]) == SCHEMA[1])


def by_kind(text: str) -> Counter[str]:
    """Return how many requests everybody has made so far for kinds that we use, by verb and kind: "WATCH pods"."""
    found = Counter[str]()
    for labels, value in samples(text, KINDS):
        if labels.get("resource") in OURS:
            found[f"{labels.get('verb')} {labels['resource']}"] += int(value)
    return found


def samples(text: str, metric: str) -> Iterator[tuple[Labels, float]]:
    """Yield labels and value of a metric's samples in Prometheus's text format."""
    for line in text.splitlines():
        if line.startswith(metric) and (found := _SAMPLE.fullmatch(line)) and found[1] == metric:
            yield dict(_LABEL.findall(found[2] or "")), float(found[3])
