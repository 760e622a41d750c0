"""What a deployment asks for and does not get, told where it is built, deployed and described."""

from __future__ import annotations

from collections.abc import Iterable

from rescoldo.cli.output import note
from rescoldo.policy.notes import PREFIX
from rescoldo.stack.file import StackFunction

_CONTAINER = ("dockerfile", "containerfile")


def tell_notes(name: str, told: Iterable[str]) -> None:
    """A line each, on stderr."""
    for text in told:
        note(f"{PREFIX}{name}: {text}")


def folder_notes(function: StackFunction) -> list[str]:
    """What lies in a handler's folder and is not used."""
    found = [file for file in sorted(function.handler.glob("*ile")) if file.name.lower() in _CONTAINER]
    return [
        f"{file}: ignored, since nothing is built as a container: list Python packages in requirements.txt, and put "
        "what a program needs beside it"
        for file in found
    ]
