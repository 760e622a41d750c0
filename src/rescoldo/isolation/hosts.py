"""The /etc/hosts that functions see: the machine's file, with some names redefined by the platform."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

HOSTS = "/etc/hosts"
MOST_BYTES = 2 * 2**20  # of the machine's file; the rest is left out
ENCODING = ("utf-8", "surrogateescape")  # bytes outside UTF-8 pass through unchanged


def hosts_with(address: str, names: Sequence[str]) -> str:
    """Return the machine's file with `names` at `address` only. Raises OSError."""
    encoding, errors = ENCODING
    with Path(HOSTS).open("rb") as file:
        text = file.read(MOST_BYTES)
        if os.fstat(file.fileno()).st_size > len(text):
            text = text[: text.rfind(b"\n") + 1]
    return changed(text.decode(encoding, errors).splitlines(), address, names)


def changed(lines: Iterable[str], address: str, names: Sequence[str]) -> str:
    """Return `lines` as text, with `names` at `address` only."""
    kept = (_without(names, line) for line in lines)
    return "\n".join([f"{address} {' '.join(names)}", *(line for line in kept if line is not None), ""])


def _without(names: Sequence[str], line: str) -> str | None:
    address, *found = line.partition("#")[0].split() or [""]
    left = [name for name in found if name.lower() not in names]
    if len(left) == len(found):
        return line
    return f"{address} {' '.join(left)}" if left else None
