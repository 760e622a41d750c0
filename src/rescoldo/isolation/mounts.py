"""Builds the file system that a process of another uid sees: a root of its own with only what it needs.

The new root is an empty tmpfs. The system's directories, the interpreter and the named paths are bound into it at
their own paths; nothing else of the host is visible. Everything but the scratch directories is read-only. Nothing here
changes the disk.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from rescoldo.isolation.hosts import ENCODING, HOSTS
from rescoldo.isolation.syscalls import (
    CLONE_NEWNS,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    attach_mount,
    mount,
    mount_setattr,
    move_root_to,
    pivot_to,
    unshare,
)

SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix",
    "/sys/devices/system/cpu",
)  # fmt: skip
"""Paths that the programs of a Linux system need; everyone on the machine may read them."""
DEVICES = ("null", "zero", "full", "random", "urandom")
SECRETS = "/var/openfaas/secrets"
SCRATCH = ("/tmp", "/var/tmp", "/dev/shm")
SOCKET_FOLDER = "/tmp/.http"  # the socket folder's path, for a program that binds a Unix socket of its own
SCRATCH_SIZE = 64 * 2**20  # bytes per scratch directory
_STAGE = "/tmp"  # the new root is assembled here, which covers the folder in this mount namespace only
_SAFE = MS_NOSUID | MS_NODEV

Kind = Literal["hide", "read", "write"]


@dataclass(frozen=True, slots=True)
class View:
    """The paths shown besides the system's directories, devices and /proc."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()  # writable where their modes on disk permit

    def to_json(self) -> dict[str, Any]:
        return {"read": list(self.read), "write": list(self.write)}

    @classmethod
    def from_json(cls, data: Mapping[str, Iterable[str]]) -> View:
        return cls(**{name: tuple(paths) for name, paths in data.items()})


@dataclass(frozen=True, slots=True)
class MountStep:
    """One path of the host to show, or to hide within a shown one; steps for its parents come first."""

    path: str
    kind: Kind


def traversable_by_others(path: str) -> bool:
    """Whether any uid may pass through the directory `path`."""
    try:
        return bool(Path(path).stat().st_mode & 0o001)
    except OSError:
        return False


def plan(view: View, open_to_all: Callable[[str], bool] = traversable_by_others) -> list[MountStep]:
    """Return the mounts for `view`, parents before children, without paths that a parent already shows.

    A directory on the way that only its owner may traverse (the data directory in /opt, say) is covered by an empty
    one, so that the needed paths inside can be reached.
    """
    wanted: dict[str, Kind] = {}
    for path in (*view.read, *view.write):
        wanted.update(dict.fromkeys((p for p in _parents(path) if not open_to_all(p)), "hide"))
    wanted.update(dict.fromkeys((*SYSTEM, *view.read), "read"))
    wanted.update(dict.fromkeys(view.write, "write"))
    steps: dict[str, Kind] = {}
    for path in sorted(wanted, key=lambda path: path.count("/")):
        kind = wanted[path]
        around = next((steps[parent] for parent in _parents(path) if parent in steps), None)
        if kind == "hide":
            useful = around in ("read", "write")
        else:
            useful = around in (None, "hide") or (around, kind) == ("read", "write")
        if useful:
            steps[path] = kind
    return [MountStep(path, kind) for path, kind in steps.items()]


def _parents(path: str) -> list[str]:
    """Return the ancestors of `path`, nearest first, without the root."""
    return [str(parent) for parent in PurePosixPath(path).parents][:-1]


def enter(view: View, hosts: str = "") -> list[MountStep]:
    """Give this process a mount namespace and a root of its own that show `view`; return the steps taken. The text
    `hosts` appears as /etc/hosts if the machine has one.

    Everything is read-only until `cover_scratch`. Skips missing paths. Needs CAP_SYS_ADMIN; raises OSError.
    """
    unshare(CLONE_NEWNS)
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    steps = [step for step in plan(view) if os.path.lexists(step.path)]
    sources = {step.path: os.open(step.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC) for step in steps}
    devices = {name: os.open(f"/dev/{name}", os.O_PATH | os.O_CLOEXEC) for name in DEVICES}
    resolver = _resolver()
    proc = os.open("/proc", os.O_PATH | os.O_CLOEXEC)
    umask = os.umask(0o022)
    try:
        mount("tmpfs", _STAGE, "tmpfs", _SAFE, "mode=0755,size=4m")
        _bind(proc, _STAGE + "/proc")
        _show_devices(devices)
        _show(steps, sources)
        for path in (*SCRATCH, SECRETS):
            Path(_STAGE + path).mkdir(parents=True, exist_ok=True)
        if resolver is not None:
            _bind(resolver[1], _STAGE + resolver[0])
        if hosts:
            _show_hosts(hosts)
        _become_root(_STAGE)
        mount_setattr("/", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID)
        for step in steps:
            if step.kind == "write":
                mount_setattr(step.path, MOUNT_ATTR_NOSUID, clear=MOUNT_ATTR_RDONLY)
    finally:
        os.umask(umask)
        for descriptor in (*sources.values(), *devices.values(), proc, *(resolver or ())[1:]):
            os.close(descriptor)
    return steps


def _become_root(folder: str) -> None:
    """Make the mount at `folder` the root. Kubernetes' profile RuntimeDefault forbids pivot_root to a container that
    may make all the other mounts; there the old root stays below the new one.

    That is as safe here: only CAP_SYS_ADMIN in this namespace could uncover it, no instance has a capability or can
    gain one (no_new_privs), and seccomp refuses it mounts and namespaces.
    """
    try:
        pivot_to(folder)
    except PermissionError:
        move_root_to(folder)


def _show_devices(devices: Mapping[str, int]) -> None:
    for name, source in devices.items():
        _bind(source, f"{_STAGE}/dev/{name}")
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        Path(f"{_STAGE}/dev/{name}").symlink_to(f"/proc/self/fd{target}")


def _show(steps: Iterable[MountStep], sources: Mapping[str, int]) -> None:
    for step in steps:
        if step.kind == "hide":
            mount("tmpfs", _STAGE + step.path, "tmpfs", _SAFE, "mode=0755,size=1m")
        else:
            _bind(sources[step.path], _STAGE + step.path)


def _resolver() -> tuple[str, int] | None:
    """Return the real path of /etc/resolv.conf and a descriptor of it, if it links outside of the shown paths (below
    /run)."""
    real = Path("/etc/resolv.conf").resolve()
    if not real.is_file() or real.is_relative_to("/etc"):
        return None
    return str(real), os.open(real, os.O_PATH | os.O_CLOEXEC)


def _show_hosts(text: str) -> None:
    """Cover /etc/hosts in the new root only; `_bind` would touch the machine's own file."""
    covered = Path(_STAGE + os.path.realpath(HOSTS))
    if covered.is_file():
        encoding, errors = ENCODING
        own = Path(_STAGE + "/.hosts")
        own.write_text(text, encoding, errors)
        mount(str(own), str(covered), flags=MS_BIND)
        own.unlink()


def in_scratch(steps: Iterable[MountStep]) -> list[str]:
    """Return the shown paths below a scratch directory, which must be shown again once it is covered."""
    return [step.path for step in steps if any(parent in SCRATCH for parent in _parents(step.path))]


def own_copy(kept: Sequence[str]) -> None:
    """Give this process a copy of the namespace that `enter` made.

    The copy has empty scratch directories, except for the paths in `kept`, and a folder for secrets that only root may
    write.
    """
    unshare(CLONE_NEWNS)  # all mounts are private already, and stay so in the copy
    cover_scratch(kept)
    mount("tmpfs", SECRETS, "tmpfs", _SAFE | MS_NOEXEC, f"mode=0755,size={SCRATCH_SIZE}")


def cover(folders: Sequence[str], keep: Sequence[str]) -> None:
    """Cover `folders` with empty directories in this process's mount namespace; show the paths of `keep` below them
    again."""
    outermost = [folder for folder in folders if not any(parent in folders for parent in _parents(folder))]
    kept = [path for path in keep if any(parent in outermost for parent in _parents(path)) and Path(path).exists()]
    _mount_empty(outermost, "mode=0755,size=1m", kept)
    for folder in outermost:
        mount_setattr(folder, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID)


def show_socket_folder(folder: int) -> None:
    """Show a directory, given as a descriptor from `clone_mount`, at SOCKET_FOLDER."""
    Path(SOCKET_FOLDER).mkdir(mode=0o755)
    attach_mount(folder, SOCKET_FOLDER)


def mount_proc() -> None:
    """Show only the processes of this PID namespace at /proc."""
    mount("proc", "/proc", "proc", _SAFE | MS_NOEXEC)


def cover_scratch(kept: Sequence[str]) -> None:
    """Mount empty scratch directories and show the paths of `kept` in them again."""
    _mount_empty(SCRATCH, f"mode=1777,size={SCRATCH_SIZE}", kept)


def _mount_empty(folders: Sequence[str], options: str, kept: Sequence[str]) -> None:
    """Mount empty directories over `folders` and show the paths of `kept` in them again, read-only or writable as they
    were."""
    # Opened before they are covered: afterwards their paths lead nowhere.
    sources = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in kept]
    umask = os.umask(0o022)  # everyone must pass the directories that lead to shown paths
    try:
        for folder in folders:
            mount("tmpfs", folder, "tmpfs", _SAFE, options)
        for path, source in zip(kept, sources, strict=True):
            _bind(source, path)
    finally:
        os.umask(umask)
        for source in sources:
            os.close(source)


def _bind(source: int, target: str) -> None:
    """Show the file or directory behind the descriptor `source` at the path `target`; make its parents."""
    origin = f"/proc/self/fd/{source}"
    place = Path(target)
    mode = os.fstat(source).st_mode
    place.parent.mkdir(parents=True, exist_ok=True)
    if stat.S_ISLNK(mode):
        place.symlink_to(os.readlink("", dir_fd=source))
        return
    if stat.S_ISDIR(mode):
        place.mkdir(exist_ok=True)
    else:
        place.touch()
    mount(origin, target, flags=MS_BIND | MS_REC)
