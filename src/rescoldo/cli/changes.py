"""Where two deployments of a function differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rescoldo.kinds.deployment import meant
from rescoldo.model.function import FunctionSpec, spec_to_json

# a gateway adds these by itself
ADDED = {"labels": "faas_function", "annotations": "prometheus.io.scrape"}
TEXTS = ("image", "envProcess")
TABLES = ("envVars", "labels", "annotations", "limits", "requests")
LISTS = ("secrets", "constraints")


@dataclass(frozen=True, slots=True)
class Change:
    """One field of a function: what it is, and what is wanted."""

    field: str
    deployed: str | None  # None: not there
    wanted: str | None


def changes_of(spec: FunctionSpec, status: Mapping[str, Any]) -> Iterator[Change]:
    """Where a FunctionStatus (empty: not deployed) differs from `spec`; what a gateway adds is no difference."""
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
    """One change, or none where the two are the same."""
    if deployed != wanted:
        yield Change(field, deployed, wanted)


def _joined(values: Any) -> str | None:
    return ", ".join(sorted(values)) if values else None


def _word(flag: Any) -> str | None:
    return "true" if flag else None
