"""Runs actions and commands in children of this process and returns what became of them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path


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


def run_after(
    steps: str, argv: list[str], cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Execute `argv` in a process that first runs `steps`, lines of Python that restrict it."""
    code = f"import os, sys\n{steps}os.execvp(sys.argv[1], sys.argv[1:])\n"
    return subprocess.run(
        [sys.executable, "-c", code, *argv],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        env=env,
    )
