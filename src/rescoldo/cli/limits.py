"""Prints the limits in force for a function, its own and the platform's, for `describe`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rescoldo.cli.output import human_size, say
from rescoldo.model.units import exactly

_NO_LIMIT = "no limit"
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


def say_limits(found: Mapping[str, Any]) -> None:
    """Print one line for each limit; nothing if the gateway does not report limits."""
    known = [f"{'':<14}{text}: {show(found[key])}" for key, (text, show) in _SHOWN.items() if key in found]
    if known:
        say("\n".join(["Limits in force:", *known]))
