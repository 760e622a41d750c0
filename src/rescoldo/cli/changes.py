"""Compares a deployed function with a function that is about to be deployed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rescoldo.kinds.deployment import meant
from rescoldo.model.function import FunctionSpec, spec_to_json

# gateways add this label and this annotation on their own
ADDED = {"labels": "faas_function", "annotations": "prometheus.io.scrape"}
TEXTS = ("image", "envProcess")
TABLES = ("envVars", "labels", "annotations", "limits", "requests")
LISTS = ("secrets", "constraints")


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs: its deployed value and its wanted value."""

    field: str
    deployed: str | None  # None: the field is absent
    wanted: str | None


def changes_of(spec: FunctionSpec, status: Mapping[str, Any]) -> Iterator[Change]:
    """Yield the differences between `spec` and a FunctionStatus (empty: not deployed), without what the gateway
    added."""
    wanted = spec_to_json(meant(spec))
    process, env = status.get("envProcess") or "", status.get("envVars") or {}
    there = {**status, "envProcess": meant(replace(spec, env_process=process, env_vars=env)).env_process}
    for key in TEXTS:
        yield from changed(key, there.get(key) or None, wanted[key] or None)
    for key in TABLES:
        here, table = wanted[key], dict(status.get(key) or {})
        if ADDED.get(key) not in here:
            table.pop(ADDED.get(key, ""), None)
        for name in sorted({*here, *table}):
            yield from changed(f"{key}.{name}", table.get(name), here.get(name))
    for key in LISTS:
        yield from changed(key, _joined(status.get(key)), _joined(wanted[key]))
    flag = "readOnlyRootFilesystem"
    yield from changed(flag, _word(status.get(flag)), _word(wanted[flag]))


def changed(field: str, deployed: str | None, wanted: str | None) -> Iterator[Change]:
    """Yield a change if the two values differ."""
    if deployed != wanted:
        yield Change(field, deployed, wanted)


def _joined(values: Any) -> str | None:
    return ", ".join(sorted(values)) if values else None


def _word(flag: Any) -> str | None:
    return "true" if flag else None
