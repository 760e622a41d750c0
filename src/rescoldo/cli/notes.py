"""What a deployment asks for and does not get, told where it is deployed and described."""

from __future__ import annotations

from collections.abc import Iterable

from rescoldo.cli.gateway import Gateway
from rescoldo.cli.output import note
from rescoldo.model.errors import RescoldoError
from rescoldo.model.function import FunctionSpec
from rescoldo.policy.notes import UNPRIVILEGED, notes
from rescoldo.stack.file import StackFunction

_CONTAINER = ("dockerfile", "containerfile")


def isolation_of(gateway: Gateway) -> dict[str, str]:
    """What keeps its instances apart, as `rescoldo status` shows it; nothing from a gateway that does not tell."""
    try:
        return dict(gateway.system("GET", "/system/status").json()["isolation"])
    except (RescoldoError, ValueError, TypeError, KeyError):
        return {}


def level_for(gateway: Gateway, specs: Iterable[FunctionSpec]) -> str:
    """The level to take notes at; empty where no level would give any, and for another gateway than ours, which may
    well do what we do not."""
    return isolation_of(gateway).get("level", "") if any(notes(spec, UNPRIVILEGED) for spec in specs) else ""


def notes_at(spec: FunctionSpec, level: str) -> list[str]:
    """The notes for a function of a gateway of ours; none where the level is not known."""
    return notes(spec, level) if level else []


def tell_notes(name: str, told: Iterable[str]) -> None:
    """A line each, on stderr."""
    for text in told:
        note(f"note: {name}: {text}")


def folder_notes(function: StackFunction) -> list[str]:
    """What lies in a handler's folder and is not used."""
    found = [file for file in sorted(function.handler.glob("*ile")) if file.name.lower() in _CONTAINER]
    return [
        f"{file}: not used, as nothing is built as a container: requirements.txt says what Python code needs, and a "
        "program has all it needs beside it"
        for file in found
    ]
