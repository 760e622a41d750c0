"""Runs actions in a forked child and returns their results as text."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable


def told_by_child(action: Callable[[], object]) -> str:
    """Call `action` in a child of this process; return its result as text, the name of its OSError, or `?`."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        answer = "?"
        try:
            answer = str(action())
        except OSError as error:
            answer = errno.errorcode[error.errno or 0]
        finally:
            os.write(write, answer.encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as text:
        answer = text.read()
    os.waitpid(child, 0)
    return answer
