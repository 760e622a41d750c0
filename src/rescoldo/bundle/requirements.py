"""What a requirements.txt asks for."""

from __future__ import annotations

import hashlib
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from rescoldo.bundle.manifest import python_here
from rescoldo.model.errors import BuildFailed

# What they name lies beside the file and may change while the file does not: the cache would not notice.
_LOCAL_OPTIONS = ("-r", "--requirement", "-c", "--constraint", "-e", "--editable")
_LOCAL_PATHS = ("./", "../", "/", "file:", "~")


@dataclass(frozen=True, slots=True)
class Requirements:
    """The content of a requirements.txt without comments: what the cache is keyed by."""

    lines: tuple[str, ...]

    @property
    def key(self) -> str:
        """sha256 over the lines, this Python's version and this machine's architecture, in hex."""
        parts = [python_here(), sys.implementation.name, sys.platform, platform.machine(), *self.lines]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def read_requirements(file: Path, shown: str) -> Requirements:
    """Read a requirements.txt; a missing one is empty. Raises BuildFailed, naming `shown` and the line, for
    what points to other local files."""
    if not file.is_file():
        return Requirements(())
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BuildFailed(f"{shown}: cannot be read: {error}") from error
    lines = []
    # a backslash at a line's end continues it; the count of lines stays right without joining
    for number, line in enumerate(text.splitlines(), start=1):
        kept = line.split(" #")[0].strip()
        if not kept or kept.startswith("#"):
            continue
        if kept.startswith(_LOCAL_OPTIONS) or kept.startswith(_LOCAL_PATHS) or " @ file:" in kept:
            raise BuildFailed(
                f"{shown}:{number}: {kept!r} points to a local file; write the requirement itself here, "
                "and put local packages into the function's folder or `configuration.copy`"
            )
        lines.append(kept)
    return Requirements(tuple(lines))
