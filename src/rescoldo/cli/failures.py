"""Prints the last failed calls for `describe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rescoldo.cli.output import say, say_columns


def say_failures(found: Sequence[Mapping[str, Any]]) -> None:
    """Print a table, newest call first; nothing if no call failed."""
    if not found:
        return
    say()
    rows = [(call["at"], call["callId"] or "-", call["status"], call["reason"]) for call in reversed(found)]
    say_columns(("FAILED CALL", "X-CALL-ID", "STATUS", "REASON"), rows)
