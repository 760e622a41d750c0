"""Checks the texts of a deployment or a namespace on arrival, because later they reach terminals and logs."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from rescoldo.model.errors import InvalidInput
from rescoldo.model.text import is_plain, visible, whole

MAX_ENTRIES = 1000  # of one table (labels, annotations, variables) or list
MAX_IMAGE = 1000  # characters of an image's name
_SHOWN = 80  # characters of a refused key that its error repeats


def check_table(what: str, values: Mapping[str, str], *, lines: bool = False) -> None:
    """Raise InvalidInput for too many entries or control characters; with `lines`, values may have line breaks."""
    check_number(what, values)
    for key, value in values.items():
        if not key or not is_plain(key) or not (visible(value) == value if lines else is_plain(value)):
            raise InvalidInput(f"{what} {_named(key)} is not valid: control characters are not allowed{_but(lines)}")


def check_variables(values: Mapping[str, str]) -> None:
    """Raise InvalidInput for too many or invalid variables; a value may be any text that a process accepts."""
    check_number("environment variables", values)
    for key, value in values.items():
        if not key or "=" in key or not is_plain(key) or "\0" in value or whole(value) != value:
            raise InvalidInput(f"environment variable {_named(key)} is not valid")


def check_text(what: str, text: str, *, lines: bool = False) -> None:
    """Raise InvalidInput for control characters in `text`; with `lines`, it may have line breaks."""
    if not (visible(text) == text if lines else is_plain(text)):
        raise InvalidInput(f"{what} {_named(text)} is not valid: control characters are not allowed{_but(lines)}")


def check_image(image: str) -> None:
    """Raise InvalidInput if an image's name is too long or has control characters."""
    if len(image) > MAX_IMAGE:
        raise InvalidInput(f"image: the name has {len(image)} characters; at most {MAX_IMAGE} are allowed")
    check_text("image", image)


def check_number(what: str, values: Collection[str]) -> None:
    """Raise InvalidInput for more than MAX_ENTRIES values."""
    if len(values) > MAX_ENTRIES:
        raise InvalidInput(f"{what}: {len(values)} are given; at most {MAX_ENTRIES} are allowed")


def _named(key: str) -> str:
    return f"{key[:_SHOWN]!r}"


def _but(lines: bool) -> str:
    return ", but for tabs and line breaks in its value" if lines else ", but for tabs"
