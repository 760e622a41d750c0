"""How the platform's processes write what they log: whoever wrote the text in it, a message is one line."""

from __future__ import annotations

import logging

from rescoldo.model.text import one_line


class OneLine(logging.Formatter):
    """Control characters and line breaks of a message are escaped; a traceback below it keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return one_line(super().formatMessage(record))


def log_to_stderr(form: str) -> None:
    """Have this process log to standard error, in `form` as logging has it."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine(form))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
