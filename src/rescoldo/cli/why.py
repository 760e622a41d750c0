"""Explains the number of instances for `describe --why`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rescoldo.cli.output import say, say_columns
from rescoldo.model.units import about, exactly

_UNITS = {"concurrency": "requests at once", "rps": "requests a second", "cpu": "millicores"}


def say_why(found: Mapping[str, Any]) -> None:
    """Print the explanation; nothing if the gateway does not report one."""
    if not found:
        return
    say()
    state = f"{found['wanted']} wanted, {found['running']} running, {found['starting']} starting"
    say(f"{'Instances:':<14}{state}; at least {found['minimum']} awake, at most {found['maximum']}")
    each = found["target"] * found["utilization"]
    unit = _UNITS.get(found["metric"], found["metric"])
    say(f"{'Target:':<14}{each:g} {unit} per instance: {found['utilization']:.0%} of {found['target']:g}")
    if look := found["look"]:
        stable, panic = found["windows"]
        averages = f"{look['stable']:.1f} over {exactly(stable)}, {look['panic']:.1f} over {exactly(panic)}"
        say(f"{'Load:':<14}{averages}, {look['queued']} queued{'; panic' if look['panicking'] else ''}")
        bound = f"; bounded by {look['bound']}" if look["bound"] else ""
        say(f"{'Decided:':<14}{look['wanted']}, {about(look['ago'])} ago: {look['reason']}{bound}")
    say(f"{'Sleeps:':<14}{found['sleep']}")
    if found["steps"]:
        say()
        say_columns(("CHANGED", "INSTANCES", "BECAUSE"), [_row(one) for one in found["steps"]])


def _row(step: Mapping[str, Any]) -> tuple[str, str, str]:
    return f"{about(step['ago'])} ago", f"{step['before']} -> {step['after']}", step["reason"]
