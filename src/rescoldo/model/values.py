"""Reads numbers from the texts of labels, annotations, variables and flags; an error names the key."""

from __future__ import annotations

from collections.abc import Mapping

from rescoldo.model.errors import InvalidInput
from rescoldo.model.units import parse_duration, parse_memory

_SHOWN = 80  # characters of a refused text that its error repeats
_DIGITS = 18  # a longer number exceeds every range, and int() refuses very long ones


def whole_number(values: Mapping[str, str], key: str, default: int, low: int, high: int) -> int:
    """Return the value of `key`, or `default` if it is missing or empty; raise InvalidInput outside of low to high."""
    text = values.get(key, "").strip()
    if not text:
        return default
    # isascii, because isdigit() also accepts other scripts' digits
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS) or not low <= int(text) <= high:
        raise _refused(key, text, f"a whole number from {low} to {high}")
    return int(text)


def choice(values: Mapping[str, str], key: str, default: str, *others: str) -> str:
    """Return the value of `key`, or `default` if it is missing or empty; raise InvalidInput unless it is `default` or
    one of `others`."""
    text = values.get(key, "").strip() or default
    allowed = (default, *others)
    if text not in allowed:
        choices = f"{', '.join(allowed[:-1])} or {allowed[-1]}"
        raise _refused(key, text, choices)
    return text


def seconds(
    values: Mapping[str, str], key: str, default: float, low: float, high: float, *, most: bool = False
) -> float:
    """As `whole_number`, for a duration (`10s`, `1m30s`, or seconds without a unit); with `most`, 0 means `high`."""
    text = values.get(key, "").strip()
    if not text:
        return default
    value = parse_duration(text, key)
    if most and value == 0:
        return high
    if not low <= value <= high:
        also = f", or 0 for {high:g}s" if most else ""
        raise _refused(key, text, f"{low:g}s to {high:g}s{also}")
    return value


def size(values: Mapping[str, str], key: str, default: int, low: int, high: int, *, none: bool = False) -> int:
    """As `whole_number`, for bytes (`64Mi`, or bytes without a unit); with `none`, 0 is allowed and means no limit."""
    text = values.get(key, "").strip()
    if not text:
        return default
    value = parse_memory(text, key)
    if not low <= value <= high and not (none and value == 0):
        also = ", or 0 for no limit" if none else ""
        raise _refused(key, text, f"{_short(low)} to {_short(high)}{also}")
    return value


def number(values: Mapping[str, str], key: str, default: float, low: float, high: float) -> float:
    """As `whole_number`, for a number that may have a fraction (`0.9`)."""
    text = values.get(key, "").strip()
    if not text:
        return default
    digits = text.replace(".", "", 1)
    if not (digits.isascii() and digits.isdigit() and len(text) <= _DIGITS) or not low <= float(text) <= high:
        raise _refused(key, text, f"a number from {low:g} to {high:g}")
    return float(text)


def _refused(key: str, text: str, allowed: str) -> InvalidInput:
    return InvalidInput(f"{key}: {text[:_SHOWN]!r} is not allowed; use {allowed}")


def _short(size: int) -> str:
    """Return bytes in the largest unit that divides them: 65536 is 64Ki."""
    for unit, factor in (("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size} byte" if size == 1 else f"{size} bytes"
