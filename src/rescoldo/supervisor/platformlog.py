"""What the platform says of itself: to standard error, which in the background is a bounded file."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

MAX_LOG = 4 * 2**20  # bytes; what is older is kept once beside it


def say(text: str) -> None:
    """Write a line to standard error; never fails: a full disk or a closed terminal must end nobody."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode(errors="replace") + b"\n")


def older(log: Path) -> Path:
    """Where the older half of a log is."""
    return log.with_suffix(".log.1")


def bound(log: Path) -> None:
    """When standard error is `log` and has grown too long, keep it as the older half and begin anew.

    It is copied and emptied rather than renamed: several processes have it open, each to append.
    """
    try:
        mine, named = os.fstat(2), log.stat()
        if (mine.st_dev, mine.st_ino) != (named.st_dev, named.st_ino) or mine.st_size <= MAX_LOG:
            return
        with contextlib.suppress(OSError):  # no space for two: then the older lines are lost
            shutil.copyfile(log, older(log))
            older(log).chmod(0o600)
        os.truncate(log, 0)
    except OSError:
        return
