from __future__ import annotations

import logging
import sys

from rescoldo.model.messages import OneLine


def record(message: str, *arguments: object, exception: bool = False) -> str:
    made = logging.LogRecord(
        "api", logging.WARNING, __file__, 1, message, arguments, sys.exc_info() if exception else None
    )
    return OneLine("%(levelname)s %(name)s: %(message)s").format(made)


def test_a_message_cannot_look_like_several_messages() -> None:
    path = "/system/function/a\nERROR api: forged\x1b[2J \ud800"
    assert record("GET %s", path) == r"WARNING api: GET /system/function/a\nERROR api: forged\x1b[2J \ud800"


def test_a_traceback_keeps_its_lines() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        text = record("failed", exception=True)
    assert text.splitlines()[0] == "WARNING api: failed"
    assert text.splitlines()[-1] == "ValueError: why"
