"""The folders, the lock and the addresses that a platform needs before it starts anything."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import socket
from pathlib import Path
from typing import IO

from rescoldo.model.errors import Conflict, InvalidInput
from rescoldo.model.rundir import last_settings
from rescoldo.model.settings import Settings
from rescoldo.supervisor.folders import clear, make, make_run, make_sockets
from rescoldo.supervisor.leftovers import end_everything, end_leftovers
from rescoldo.supervisor.running import platform_at, url_of

MAX_SOCKET_PATH = 97  # bytes of a path that HAProxy accepts
UNMAPPED = 65534  # shown by the kernel for a group outside of the user namespace; no platform uses it (model/ids.py)
LONGEST_SOCKET = 37  # bytes: "/", 20 of the function's name, "-", 10 that are unique, ".sock"


def prepare(settings: Settings) -> IO[str]:
    """Make the folders and take the data directory's lock, which lasts until the returned file is closed.

    Raises InvalidInput when a folder cannot be made or written, Conflict when another platform serves it.
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
    make(settings.data_path, 0o700)
    _check_groups(settings)
    held = lock(settings)
    try:
        _end_earlier(settings)
        make_run(settings)
        make_sockets(settings)
        settings.store_copy.unlink(missing_ok=True)  # left by a killed platform, whose database counts
        settings.save()
    except BaseException:
        held.close()
        raise
    return held


def _check_groups(settings: Settings) -> None:
    """Raise InvalidInput for bundles whose groups this user namespace does not map. The controller replaces the groups
    of another range (`BundleStorage.prepare`), but nobody in this namespace may replace these."""
    stored = itertools.chain(settings.bundles.glob("*"), settings.bundles.glob("layers/*"))  # bundle/layers.py
    if os.geteuid() == 0 and any(folder.lstat().st_gid == UNMAPPED for folder in stored):
        raise InvalidInput(
            f"{settings.bundles} has folders of groups that do not exist in this user namespace: a platform in another "
            "one has made them. Run it there, or choose another data directory"
        )


def _end_earlier(settings: Settings) -> None:
    """End what a killed platform left. If its run folder was another, end its instances, too: no node adopts them."""
    end_leftovers(settings)
    earlier = last_settings(settings.data_path)
    if earlier is not None and earlier.run != settings.run:
        end_everything(earlier)
        clear(earlier)


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
                at = platform_at(address)
                whose = f"by {at}" if at is not None else "by another program"
                raise Conflict(f"{address} is already in use {whose}; choose another with {flag}") from error
            hint = "; this user may not use it: choose a port from 1024 on" if error.errno == errno.EACCES else ""
            raise InvalidInput(f"{flag}: cannot listen on {address}: {error.strerror}{hint}") from error


def running_pid(settings: Settings) -> int | None:
    """The pid of the guardian of the platform that serves this data directory now; None when none does."""
    try:
        with lock_file(settings).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0) or None
            return None
    except (OSError, ValueError):
        return None


def lock_file(settings: Settings) -> Path:
    """The file whose lock the platform of this data directory holds."""
    return settings.data_path / "lock"


def lock(settings: Settings) -> IO[str]:
    """Take the data directory for this process; raises Conflict when another platform serves it, OSError."""
    # without O_TRUNC: when another platform has the lock, the file names its pid
    held = os.fdopen(os.open(lock_file(settings), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = held.read() or "?"
        held.close()
        last = last_settings(settings.data_path)
        where = f" at {url_of(last)}" if last is not None else ""
        raise Conflict(
            f"{settings.data} is already served by process {pid}{where}; stop it with `rescoldo down --data "
            f"{settings.data}`, or choose another data directory with --data"
        ) from error
    name_holder(held.fileno(), os.getpid())
    return held


def name_holder(lock: int, pid: int) -> None:
    """Write the pid of the platform's main process into the lock file."""
    text = str(pid).encode()
    os.pwrite(lock, text, 0)
    os.ftruncate(lock, len(text))
