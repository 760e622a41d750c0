"""How `describe` shows the last calls that failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rescoldo.cli.output import say, say_columns


def say_failures(found: Sequence[Mapping[str, Any]]) -> None:
    """A table, the last one first; nothing where no call failed."""
    if not found:
        return
    say()
    rows = [(call["at"], call["callId"] or "-", call["status"], call["reason"]) for call in reversed(found)]
    say_columns(("FAILED CALL", "X-CALL-ID", "STATUS", "REASON"), rows)
