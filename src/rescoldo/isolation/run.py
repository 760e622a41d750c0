"""Runs a command that must not have root, such as an installer that executes code of packages."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rescoldo.isolation.interpreter import needed_directories, python_command, unique_paths
from rescoldo.isolation.level import level
from rescoldo.isolation.mounts import View

_CHUNK = 65536
_LONGEST_LINE = 16384


def unprivileged_command(
    argv: Sequence[str],
    *,
    uid: int,
    gid: int,
    visible_read: Sequence[Path] = (),
    visible_write: Sequence[Path] = (),
    env: Mapping[str, str],
    cwd: Path,
    on_line: Callable[[str], None],
    timeout: float,
) -> int:
    """Run `argv` and return its exit status (negative: the signal that ended it).

    As root, the command runs as `uid`:`gid` without other rights. It sees neither homes nor the host's /tmp, only this
    interpreter, `visible_read` and `visible_write` (whose owners and modes on disk must let `uid` in). Without root it
    runs as the current user with nothing hidden. `env` is its whole environment. `on_line` gets both output streams
    line by line. After `timeout` seconds the command and its process group are killed, and TimeoutError is raised;
    they are also killed if `on_line` raises.
    """
    if level() == "full":
        read = needed_directories() + unique_paths(map(str, visible_read))
        view = View(read=read, write=unique_paths(map(str, visible_write)))
        argv, cwd = _as_other_user(argv, uid, gid, cwd, view), Path("/")
    with subprocess.Popen(
        argv,
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            _follow(process, on_line, time.monotonic() + timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return process.returncode


def _as_other_user(argv: Sequence[str], uid: int, gid: int, cwd: Path, view: View) -> Sequence[str]:
    """Return the command that makes `isolation/enter.py` give up root's rights, enter `view` and become `argv`."""
    order = {"argv": list(argv), "uid": uid, "gid": gid, "cwd": str(cwd), "view": view.to_json()}
    return python_command("rescoldo.isolation.enter", json.dumps(order))


def _follow(process: subprocess.Popen[bytes], on_line: Callable[[str], None], deadline: float) -> None:
    """Pass lines on until the command and its output have ended."""
    assert process.stdout is not None
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"{process.args!r:.80} took too long")
            chunk = os.read(process.stdout.fileno(), _CHUNK)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                on_line(line.decode(errors="replace").rstrip("\r"))
            if len(rest) > _LONGEST_LINE or (rest and not chunk):
                on_line(rest.decode(errors="replace"))
                rest = b""
            if not chunk:
                break
    process.wait(max(0.1, deadline - time.monotonic()))
