"""The folders, the lock and the ports a platform needs before anything is started."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import stat
from pathlib import Path
from typing import IO

from rescoldo.model.errors import Conflict, InvalidInput
from rescoldo.model.settings import Settings
from rescoldo.supervisor.leftovers import end_leftovers

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
    held = lock(settings)
    end_leftovers(settings)
    sockets = settings.wake_socket.parent
    _make(sockets, 0o711)
    settings.save()
    return held


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
    """The main process of the platform that serves this data directory now: its guardian."""
    try:
        with settings.data_path.joinpath("lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0) or None
            return None
    except (OSError, ValueError):
        return None


def replace_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old text or the new one, never half of it."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


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
    check_room(folder)


def check_room(folder: Path) -> None:
    """Raise OSError unless a file in `folder` can be written."""
    probe = folder / ".probe"
    try:
        probe.write_bytes(bytes(PROBE_BYTES))
    finally:
        probe.unlink(missing_ok=True)


def lock(settings: Settings) -> IO[str]:
    """Take the data directory for this process; raises Conflict when another platform serves it, OSError."""
    held = os.fdopen(os.open(settings.data_path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = held.read() or "?"
        held.close()
        raise Conflict(
            f"{settings.data} is already served by process {pid}; stop it with `rescoldo down`, or choose another "
            "data directory with --data"
        ) from error
    name_holder(held.fileno(), os.getpid())
    return held


def name_holder(lock: int, pid: int) -> None:
    """Write into the lock's file which process is the platform's main one."""
    text = str(pid).encode()
    os.pwrite(lock, text, 0)
    os.ftruncate(lock, len(text))
