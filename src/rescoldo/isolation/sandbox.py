"""The surroundings of an instance. The zygote's fork makes them in two steps: first everything that does not depend on
the instance (`prepare`), later the rest (`finish`).

Full (root): namespaces, a root of its own, cgroups, seccomp, its own uid. Unprivileged: what the kernel grants to
every user.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rescoldo.isolation import landlock, seccomp
from rescoldo.isolation.cgroups import MOST_PIDS, Makers
from rescoldo.isolation.identity import become, die_first, limit_processes
from rescoldo.isolation.mounts import SECRETS, MountStep, in_scratch, mount_proc, own_copy, show_socket_folder
from rescoldo.isolation.syscalls import (
    CLONE_NEWIPC,
    CLONE_NEWPID,
    join_namespace,
    no_new_privileges,
    not_dumpable,
    unshare,
)
from rescoldo.model.ids import LAYER_GIDS

_CHUNK = 65536  # bytes copied at once


@dataclass(frozen=True, slots=True)
class Tenant:
    """The instance that moves into a sandbox."""

    uid: int | None  # None: it keeps the platform's user
    gid: int
    bundle: str  # folder of its code
    layer: str  # folder of its requirements if outside of its bundle; empty: none
    scratch: str  # its writable folder
    secrets: Mapping[str, int]  # name → open descriptor of the value
    port: int = 0  # TCP port of its program; 0: none


class Sandbox(Protocol):
    """Makes the surroundings of instances, one after another; lives in the zygote."""

    def new_name(self) -> str:
        """Name the next sandbox and make its parts outside of the process. Raises OSError."""
        ...

    def fork(self) -> int:
        """Fork the future instance; returns as os.fork()."""
        ...

    def prepare(self, name: str, socket_folder: int | None = None) -> int | None:
        """In the child: do everything that does not depend on the instance. Exception: `socket_folder`, for an
        instance that will bind a Unix socket, is a descriptor of the folder for it (clone_mount). Return the listener
        for forks if this process asks for them from now on (`seccomp.install_asking`)."""
        ...

    def finish(self, tenant: Tenant) -> str:
        """In the child: put the secrets into place and become the tenant; return the folder of its secrets."""
        ...

    def discard(self, name: str) -> None:
        """Remove what `new_name` made, after a failed fork."""
        ...


class FullSandbox:
    """The sandbox for root; `steps` is the view that the zygote has entered."""

    def __init__(self, steps: Sequence[MountStep], cgroups: Makers | None) -> None:
        self._kept = in_scratch(steps)
        self._cgroups = cgroups
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._numbers = itertools.count(1)
        self._filtered = _build_filter(shared_uid=False)

    def new_name(self) -> str:
        name = f"{os.getpid()}-{next(self._numbers)}"
        if self._cgroups is not None:
            self._cgroups.make(name)
        return name

    def fork(self) -> int:
        # The next child becomes the first process of its own PID namespace. Its descendants end with it.
        unshare(CLONE_NEWPID)
        child = False
        try:
            pid = os.fork()
            child = pid == 0
        finally:
            if not child:
                join_namespace(self._own_pids, CLONE_NEWPID)
        return pid

    def prepare(self, name: str, socket_folder: int | None = None) -> int | None:
        if self._cgroups is not None:
            self._cgroups.join(name)
        unshare(CLONE_NEWIPC)
        own_copy(self._kept)
        mount_proc()
        if socket_folder is not None:
            show_socket_folder(socket_folder)
        no_new_privileges()
        landlock.scope()
        if self._filtered:
            seccomp.install(shared_uid=False)
        return None

    def finish(self, tenant: Tenant) -> str:
        assert tenant.uid is not None
        for name, source in tenant.secrets.items():
            _copy(source, f"{SECRETS}/{name}", 0o440, tenant.gid)
        limit_processes(MOST_PIDS)
        become(tenant.uid, tenant.gid, _group_of(tenant.layer))
        not_dumpable()  # after `become`: a change of uid resets it (prctl(2))
        return SECRETS

    def discard(self, name: str) -> None:
        if self._cgroups is not None:
            self._cgroups.remove(name)


class UnprivilegedSandbox:
    """The sandbox for any other user; changes nothing outside of the process. `read`: the interpreter's folders.
    `asks`: instances ask for their forks."""

    def __init__(self, read: Sequence[str], *, asks: bool = False) -> None:
        self._read = (*landlock.SYSTEM, *read)
        self._filtered = _build_filter(shared_uid=True)
        self._asks = asks and self._filtered
        if self._asks:
            seccomp.build(os.uname().machine, shared_uid=True, asking=True)

    def new_name(self) -> str:
        return ""

    def fork(self) -> int:
        return os.fork()

    def prepare(self, name: str, socket_folder: int | None = None) -> int | None:
        if landlock.abi():
            landlock.pin_own_process()
        no_new_privileges()
        die_first()
        not_dumpable()  # after `die_first`, whose file belongs to root then
        if self._asks:
            return seccomp.install_asking(shared_uid=True)
        if self._filtered:
            seccomp.install(shared_uid=True)
        return None

    def finish(self, tenant: Tenant) -> str:
        folder = f"{tenant.scratch}/secrets"
        if tenant.secrets:
            Path(folder).mkdir(mode=0o700)
        for name, source in tenant.secrets.items():
            _copy(source, f"{folder}/{name}", 0o400, None)
        if landlock.abi():
            landlock.restrict(
                read=(*self._read, tenant.bundle, *([tenant.layer] if tenant.layer else [])),
                write=(*landlock.DEVICES, tenant.scratch),
                bind_ports=(0, tenant.port),  # no other instance's port, even while that instance sleeps
            )
        return folder

    def discard(self, name: str) -> None:
        """Nothing to remove."""


def _group_of(layer: str) -> tuple[int, ...]:
    """Return the group that may read a layer. Never any other group, because a bundle may bring a link of its own."""
    try:
        gid = os.stat(layer).st_gid if layer else 0  # noqa: PTH116 - pathlib costs a fresh fork 60 page faults
    except OSError:
        return ()
    return (gid,) if gid in LAYER_GIDS else ()


def _build_filter(*, shared_uid: bool) -> bool:
    """Assemble the filter before the forks, which inherit it; return False if this machine has none."""
    if available := seccomp.available():
        seccomp.build(os.uname().machine, shared_uid=shared_uid)
    return available


def _copy(source: int, path: str, mode: int, group: int | None) -> None:
    """Copy the descriptor `source` to a new file, which has its final `mode` before the first byte."""
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with contextlib.closing(os.fdopen(target, "wb", 0)) as file:
        if group is not None:
            os.fchown(target, 0, group)
        os.fchmod(target, mode)
        while chunk := os.read(source, _CHUNK):
            file.write(chunk)
    os.close(source)
