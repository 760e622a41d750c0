"""Converts text to numbers and back: durations in seconds, memory in bytes, cpu in millicores.

Durations are Go's (`1m30s`, `500ms`) or plain integers, which OpenFaaS reads as seconds; quantities are
Kubernetes' (`40Mi`, `1G`, `100m`).
"""

from __future__ import annotations

import re

from rescoldo.model.errors import InvalidInput

_NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,15})?)"  # as many digits as a float holds
_DURATION = re.compile(_NUMBER + "(ms|us|µs|h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
_QUANTITY = re.compile(_NUMBER + "(m|[kKMGT]i?)?")
_FACTORS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_FACTORS |= {"Ki": 2**10, "ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def parse_duration(text: str, what: str = "duration") -> float:
    """Return seconds; `what` names the setting in the error."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidInput(f"{what}: {text[:80]!r} is not a duration; write for example 10s, 1m30s or 500ms")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def parse_memory(text: str, what: str = "memory") -> int:
    """Return bytes; `40Mi` is 41,943,040."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2] == "m":
        raise InvalidInput(f"{what}: {text[:80]!r} is not a size; write for example 64Mi or 1Gi")
    return _whole(float(match[1]) * _FACTORS[match[2] or ""])


def parse_cpu(text: str, what: str = "cpu") -> int:
    """Return millicores; `0.5` and `500m` are both 500."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2] not in (None, "m"):
        raise InvalidInput(f"{what}: {text[:80]!r} is not a cpu quantity; write for example 100m or 0.5")
    return _whole(float(match[1]) * (1 if match[2] == "m" else 1000))


def _whole(amount: float) -> int:
    """Return the nearest whole number, at least 1 unless `amount` is 0: 0 means no limit."""
    return max(1, round(amount)) if amount else 0


_LONG = (("days", 86400), ("h", 3600), ("min", 60))  # use a unit from twice its size on: 90 s, 12 min, 36 h


def about(seconds: float) -> str:
    """Return a measured time (seconds) as a person says it, rounded down from 10 s on: 0.0042 is `4 ms`, 774.1 is
    `12 min`."""
    for unit, size in _LONG:
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    if seconds < 0.1:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else f"{int(seconds)} s"


def exactly(seconds: float) -> str:
    """Return a configured time (seconds) without rounding: 300 is `5 min`, 330 is `330 s`."""
    for unit, size in _LONG:
        if seconds >= 2 * size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
