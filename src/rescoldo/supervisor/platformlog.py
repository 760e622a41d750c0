"""The platform's own log: standard error, which is a bounded file when the platform runs in the background."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

MAX_LOG = 4 * 2**20  # bytes; one older half is kept beside it


def say(text: str) -> None:
    """Write a line to standard error. Never raises: a full disk or a closed terminal must not end a process."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode(errors="replace") + b"\n")


def older(log: Path) -> Path:
    """The path of a log's older half."""
    return log.with_suffix(".log.1")


def bound(log: Path) -> None:
    """When standard error is `log` and exceeds MAX_LOG, keep its text as the older half and start anew.

    Copies and truncates the file rather than renaming it: several processes have it open for appending.
    """
    try:
        mine, named = os.fstat(2), log.stat()
        if (mine.st_dev, mine.st_ino) != (named.st_dev, named.st_ino) or mine.st_size <= MAX_LOG:
            return
        with contextlib.suppress(OSError):  # no space for a copy: the older lines are lost
            shutil.copyfile(log, older(log))
            older(log).chmod(0o600)
        os.truncate(log, 0)
    except OSError:
        return
