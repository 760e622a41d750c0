"""The folders, the lock and the ports a platform needs before anything is started."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import stat
from pathlib import Path
from typing import IO

from rescoldo.model.errors import Conflict, InvalidInput, RescoldoError
from rescoldo.model.settings import Settings

END_SECONDS = 5.0  # for the kernel to end a killed process
MAX_SOCKET_PATH = 97  # bytes that HAProxy takes
LONGEST_SOCKET = 37  # bytes: "/", 20 of the function's name, "-", 10 that are unique, ".sock"
PROBE_BYTES = 4096  # an empty file would fit on a full disk


def prepare(settings: Settings) -> IO[str]:
    """Make the folders and take the data directory's lock; hold on to what is returned.

    Raises InvalidInput where a folder cannot be made or written, Conflict when another platform serves it.
    """
    try:
        return _prepare(settings)
    except OSError as error:
        raise InvalidInput(
            f"cannot write to {error.filename or settings.data}: {error.strerror}; choose another data directory "
            "with --data or $RESCOLDO_DATA"
        ) from error


def _prepare(settings: Settings) -> IO[str]:
    if len(os.fsencode(settings.instances)) + LONGEST_SOCKET > MAX_SOCKET_PATH:
        raise InvalidInput(f"the runtime directory {settings.run} is too long for Unix sockets; set a shorter one")
    _make(settings.data_path, 0o700)
    _make_parent(settings.run_path.parent)
    _make(settings.run_path, 0o711)
    lock = _lock(settings)
    _end_leftovers(settings)
    sockets = settings.wake_socket.parent
    _make(sockets, 0o711)
    settings.save()
    settings.pid_file.write_text(str(os.getpid()))
    return lock


def check_address(address: str, flag: str) -> None:
    """Raise InvalidInput unless HOST:PORT may be listened on; `flag` names the setting."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise InvalidInput(f"{flag}: {address!r} is not HOST:PORT; write for example 127.0.0.1:8080")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Conflict(f"{address} is already in use by another program; choose another with {flag}") from error
            raise InvalidInput(f"{flag}: cannot listen on {address}: {error.strerror}") from error


def running_pid(settings: Settings) -> int | None:
    """The supervisor that serves this data directory now."""
    try:
        with settings.data_path.joinpath("lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read() or 0) or None
            return None
    except (OSError, ValueError):
        return None


def clear(settings: Settings) -> None:
    """Remove the runtime directory; the data stays."""
    shutil.rmtree(settings.run_path, ignore_errors=True)


def _make_parent(folder: Path) -> None:
    """Make the folder that the runtime directories of one user share; in a place like /dev/shm somebody else
    may have made one of its name."""
    try:
        folder.mkdir(parents=True)
        folder.chmod(0o711)
    except FileExistsError:
        info = folder.lstat()
        if not stat.S_ISDIR(info.st_mode) or info.st_uid not in (0, os.geteuid()):
            raise InvalidInput(f"{folder} is not ours, but uid {info.st_uid}'s: remove it") from None


def _make(folder: Path, mode: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise InvalidInput(f"{folder} belongs to another user; remove it, or choose another data directory")
    folder.chmod(mode)
    probe = folder / ".probe"
    try:
        probe.write_bytes(bytes(PROBE_BYTES))
    finally:
        probe.unlink(missing_ok=True)


def _lock(settings: Settings) -> IO[str]:
    lock = settings.data_path.joinpath("lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        pid = lock.read() or "?"
        lock.close()
        raise Conflict(
            f"{settings.data} is already served by process {pid}; stop it with `rescoldo down`, or choose another "
            "data directory with --data"
        ) from error
    lock.seek(0)
    lock.truncate()
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _end_leftovers(settings: Settings) -> None:
    """Kill what a supervisor that was killed left behind. Its functions are not touched: the new node
    adopts them."""
    try:
        children = json.loads(settings.children_file.read_text())
    except (OSError, ValueError):
        return
    for pid in children.values():
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if settings.run.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                select.select([fd], [], [], END_SECONDS)  # readable when its last thread has ended
        except OSError as error:
            if error.errno not in (errno.ESRCH, errno.ENOENT):
                raise RescoldoError(f"process {pid} of an earlier platform cannot be ended: {error}") from error
        finally:
            os.close(fd)

