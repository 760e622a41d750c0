"""Starts a platform in the background, and stops it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from rescoldo.model.errors import InvalidInput, RescoldoError
from rescoldo.model.settings import Settings
from rescoldo.supervisor.place import running_pid

START_SECONDS = 60.0
STOP_SECONDS = 45.0
LOOK_SECONDS = 0.05
MAX_LOG = 4 * 2**20  # bytes; an older log is kept once beside it


def start_background(settings: Settings) -> None:
    """Start the platform; return when it answers. Raises RescoldoError with what it said when it does not."""
    log = _open_log(settings)
    request = settings.data_path / "start.json"
    request.write_text(_as_json(settings))
    with log.open("ab") as output:
        begin = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "rescoldo.supervisor.main", str(request)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    if not _wait(lambda: process.poll() is not None or answers(settings.gateway), START_SECONDS):
        process.terminate()
        raise RescoldoError(f"the platform did not answer within {START_SECONDS:g} s; see {log}")
    if process.poll() is not None:
        said = log.read_bytes()[begin:].decode(errors="replace").strip()[-2000:]
        raise RescoldoError(f"the platform could not be started:\n{said}")


def stop(settings: Settings) -> bool:
    """Stop the platform of this data directory; return whether one ran. Raises RescoldoError when it stays."""
    pid = running_pid(settings)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    if not _wait(lambda: running_pid(settings) is None, STOP_SECONDS):
        raise RescoldoError(f"process {pid} did not end within {STOP_SECONDS:g} s; see {log_file(settings)}")
    return True


def answers(gateway: str) -> bool:
    """Whether a gateway at HOST:PORT is healthy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{gateway}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def log_file(settings: Settings) -> Path:
    return settings.data_path / "platform.log"


def _open_log(settings: Settings) -> Path:
    path = log_file(settings)
    try:
        settings.data_path.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > MAX_LOG:
            path.replace(path.with_suffix(".log.1"))
        path.touch(mode=0o600)
    except OSError as error:
        raise InvalidInput(
            f"cannot write to {settings.data}: {error.strerror}; choose another data directory with --data or "
            "$RESCOLDO_DATA"
        ) from error
    return path


def _as_json(settings: Settings) -> str:
    import json
    from dataclasses import asdict

    return json.dumps(asdict(settings))


def _wait(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True
