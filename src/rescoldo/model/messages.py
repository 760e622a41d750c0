"""The log format of the platform's processes: each message is one line, even with text from outside in it."""

from __future__ import annotations

import logging

from rescoldo.model.text import one_line


class OneLine(logging.Formatter):
    """Escapes control characters and line breaks in a message; a traceback below it keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return one_line(super().formatMessage(record))


def log_to_stderr(form: str) -> None:
    """Log this process to standard error, with `form` as the format string of `logging`."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine(form))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it tells of every request
