"""Starts a platform in the background, and stops it."""

from __future__ import annotations

import contextlib
import logging
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
from rescoldo.supervisor.folders import check_room, clear
from rescoldo.supervisor.leftovers import END_SECONDS, are_there, end_everything, end_supervision
from rescoldo.supervisor.place import lock, running_pid
from rescoldo.supervisor.running import is_platform

log = logging.getLogger(__name__)

START_SECONDS = 60.0
STOP_SECONDS = 45.0
LOOK_SECONDS = 0.05


def start_background(settings: Settings) -> None:
    """Start the platform; return when it answers. Raises RescoldoError with its output when it does not."""
    log = _open_log(settings)
    request = settings.data_path / "start.json"
    request.write_text(settings.to_json())
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

    def started() -> bool:
        # only a platform has bound its addresses: before that, another one may answer there
        return is_platform(process.pid) and answers(settings.metrics)

    if not _wait(lambda: process.poll() is not None or started(), START_SECONDS):
        process.terminate()
        raise RescoldoError(f"the platform did not answer within {START_SECONDS:g} s; see {log}")
    if process.poll() is not None:
        said = log.read_bytes()[begin:].decode(errors="replace").strip()[-2000:]
        raise RescoldoError(f"the platform could not be started:\n{said}")


def stop(settings: Settings) -> bool:
    """Stop the platform of this data directory, or end what a killed one left; return whether there was anything.

    Kills a platform that has not ended STOP_SECONDS after SIGTERM and its longest drain. Raises RescoldoError when that
    fails, too.
    """
    told = None

    def ended() -> bool:
        nonlocal told
        pid = running_pid(settings)
        if pid is not None and pid != told:  # another one when the guardian was killed meanwhile
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            told = pid
        return pid is None

    patience = STOP_SECONDS + settings.longest_drain
    if not _wait(ended, patience):
        log.warning("process %s did not end within %g s; killing it; see %s", told, patience,
                    settings.platform_log)  # fmt: skip
        _kill_supervision(settings)
    return _end_abandoned(settings) or told is not None


def _kill_supervision(settings: Settings) -> None:
    """Kill guardian and supervisor, and any successor that one of them has just started. Raises RescoldoError when
    one survives."""

    def ended() -> bool:
        end_supervision(settings)
        return running_pid(settings) is None

    if not _wait(ended, END_SECONDS):
        raise RescoldoError(f"process {running_pid(settings)} does not end; see {settings.platform_log}")


def _end_abandoned(settings: Settings) -> bool:
    if not settings.data_path.is_dir():
        return False
    try:
        with lock(settings):
            found = end_everything(settings)
            clear(settings)
            return found
    except OSError as error:
        raise RescoldoError(f"cannot write to {settings.data}: {error.strerror}") from error


def abandoned(settings: Settings) -> bool:
    """Whether processes of this platform, at this address, still run without guardian and supervisor."""
    try:
        left = Settings.load(settings.settings_file)
    except (OSError, ValueError, TypeError):
        return False
    return left.gateway == settings.gateway and running_pid(settings) is None and are_there(settings)


def answers(metrics: str) -> bool:
    """Whether the platform with metrics at HOST:PORT is healthy. That address never speaks TLS."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # ignores $http_proxy
    try:
        with opener.open(f"http://{metrics}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _open_log(settings: Settings) -> Path:
    path = settings.platform_log
    try:
        settings.data_path.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        check_room(settings.data_path)  # on a full disk the platform's errors would be lost
    except OSError as error:
        raise InvalidInput(
            f"cannot write to {settings.data}: {error.strerror}; choose another data directory with --data or "
            "$RESCOLDO_DATA"
        ) from error
    return path


def _wait(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True
