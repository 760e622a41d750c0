"""Prints the limits in force for a function, its own and the platform's, for `describe`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rescoldo.cli.output import human_size, say
from rescoldo.model.units import exactly

_NO_LIMIT = "no limit"
# limits that only cgroups enforce, by what the platform says of its limits; without cgroups the node polls memory
_IDLE: dict[str | None, tuple[str, ...]] = {"none": ("memory", "cpu"), "memory polled": ("cpu",)}
_SHOWN: dict[str, tuple[str, Callable[[Any], str]]] = {
    "concurrency": ("requests at once in an instance", str),
    "max_queue": ("queued requests", str),
    "exec_timeout": ("duration of a call", exactly),
    "max_body": ("body of a request", human_size),
    "max_response": ("response", lambda size: human_size(size) if size else _NO_LIMIT),
    "memory": ("memory of an instance", lambda size: human_size(size) if size else _NO_LIMIT),
    "cpu": ("cpu of an instance", lambda millicores: f"{millicores}m" if millicores else _NO_LIMIT),
    "max_files": ("open files of an instance", str),
    "log_rate": ("log output of an instance", lambda size: f"{human_size(size)} a second"),
}


def say_limits(found: Mapping[str, Any], *, by: str | None) -> None:
    """Print one line for each limit; nothing if the gateway does not report limits. `by` is what enforces those of
    memory and cpu, as the node describes it; without it they are only what the function asks for."""
    known = []
    for key, (text, show) in _SHOWN.items():
        if key in found:
            idle = key in _IDLE.get(by, ()) and found[key]
            known.append(f"{'':<14}{text}: {show(found[key])}{' (not enforced on this machine)' if idle else ''}")
    if known:
        say("\n".join(["Limits in force:", *known]))
