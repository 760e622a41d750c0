"""Prints notes on settings that have no effect, at build, deployment and in `describe`."""

from __future__ import annotations

from collections.abc import Iterable

from rescoldo.cli.output import note
from rescoldo.policy.notes import PREFIX
from rescoldo.stack.file import StackFunction

_CONTAINER = ("dockerfile", "containerfile")


def tell_notes(name: str, told: Iterable[str]) -> None:
    """Print one line for each note on stderr."""
    for text in told:
        note(f"{PREFIX}{name}: {text}")


def folder_notes(function: StackFunction) -> list[str]:
    """Return notes on files of the handler's folder that builds ignore."""
    found = [file for file in sorted(function.handler.glob("*ile")) if file.name.lower() in _CONTAINER]
    return [
        f"{file}: ignored, since nothing is built as a container: list Python packages in requirements.txt, and put "
        "what a program needs beside it"
        for file in found
    ]
