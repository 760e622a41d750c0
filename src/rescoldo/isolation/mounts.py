"""What a process of another uid sees of the file system: a root of its own, made of what it needs.

The new root is an empty tmpfs into which the system's directories, the interpreter and what else is named
are bound at the paths they have; everything else of the host is not there. All of it is read-only but the
scratch directories. Nothing here changes anything on disk.
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
    pivot_to,
    unshare,
)

SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix",
    "/sys/devices/system/cpu",
)  # fmt: skip
"""What programs of a Linux system need; readable by everybody there."""
DEVICES = ("null", "zero", "full", "random", "urandom")
SECRETS = "/var/openfaas/secrets"
SCRATCH = ("/tmp", "/var/tmp", "/dev/shm")
SOCKET_FOLDER = "/tmp/.http"  # where a program that binds a Unix socket of its own finds the folder for it
SCRATCH_SIZE = 64 * 2**20  # bytes in each scratch directory
_STAGE = "/tmp"  # where the new root is put together; covered in this mount namespace alone
_SAFE = MS_NOSUID | MS_NODEV

Kind = Literal["hide", "read", "write"]


@dataclass(frozen=True, slots=True)
class View:
    """What is there besides the system's directories, devices and /proc."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()  # writable, by the modes on disk

    def to_json(self) -> dict[str, Any]:
        return {"read": list(self.read), "write": list(self.write)}

    @classmethod
    def from_json(cls, data: Mapping[str, Iterable[str]]) -> View:
        return cls(**{name: tuple(paths) for name, paths in data.items()})


@dataclass(frozen=True, slots=True)
class MountStep:
    """One path of the host to be shown, or hidden within what is shown, after those above it."""

    path: str
    kind: Kind


def traversable_by_others(path: str) -> bool:
    """Whether any uid may pass through the directory `path`."""
    try:
        return bool(Path(path).stat().st_mode & 0o001)
    except OSError:
        return False


def plan(view: View, open_to_all: Callable[[str], bool] = traversable_by_others) -> list[MountStep]:
    """What is to be bound for `view`, parents before children, none that its parent shows already.

    A directory on the way that only its owner may traverse (the data directory in /opt, say) is covered by an
    empty one, so that what is needed in it can be reached.
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
    """Ancestors, nearest first, without the root."""
    return [str(parent) for parent in PurePosixPath(path).parents][:-1]


def enter(view: View, hosts: str = "") -> list[MountStep]:
    """Give this process a mount namespace and a root of its own that show `view`; return the steps taken. The text
    `hosts` is shown as /etc/hosts, where the machine has one.

    All is read-only until `cover_scratch`. Needs CAP_SYS_ADMIN; raises OSError. Paths that do not exist are left
    out.
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
        pivot_to(_STAGE)
        mount_setattr("/", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID)
        for step in steps:
            if step.kind == "write":
                mount_setattr(step.path, MOUNT_ATTR_NOSUID, clear=MOUNT_ATTR_RDONLY)
    finally:
        os.umask(umask)
        for descriptor in (*sources.values(), *devices.values(), proc, *(resolver or ())[1:]):
            os.close(descriptor)
    return steps


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
    """Where /etc/resolv.conf really is, and that file, when it is a link to something not shown (below /run)."""
    real = Path("/etc/resolv.conf").resolve()
    if not real.is_file() or real.is_relative_to("/etc"):
        return None
    return str(real), os.open(real, os.O_PATH | os.O_CLOEXEC)


def _show_hosts(text: str) -> None:
    """Cover /etc/hosts in the new root, not what it is on the machine: `_bind` would touch that."""
    covered = Path(_STAGE + os.path.realpath(HOSTS))
    if covered.is_file():
        encoding, errors = ENCODING
        own = Path(_STAGE + "/.hosts")
        own.write_text(text, encoding, errors)
        mount(str(own), str(covered), flags=MS_BIND)
        own.unlink()


def in_scratch(steps: Iterable[MountStep]) -> list[str]:
    """The paths that are shown below a scratch directory, and must be shown again when it is covered."""
    return [step.path for step in steps if any(parent in SCRATCH for parent in _parents(step.path))]


def own_copy(kept: Sequence[str]) -> None:
    """Give this process (in a namespace that `enter` made) one of its own, with empty scratch directories (but for
    what is `kept` in them) and a folder for secrets that only root may write."""
    unshare(CLONE_NEWNS)  # everything is private already, and the copy stays so
    cover_scratch(kept)
    mount("tmpfs", SECRETS, "tmpfs", _SAFE | MS_NOEXEC, f"mode=0755,size={SCRATCH_SIZE}")


def cover(folders: Sequence[str], keep: Sequence[str]) -> None:
    """Show empty directories at `folders`, in this process's mount namespace, and in them again those of `keep` that
    lie below."""
    outermost = [folder for folder in folders if not any(parent in folders for parent in _parents(folder))]
    kept = [path for path in keep if any(parent in outermost for parent in _parents(path)) and Path(path).exists()]
    sources = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in kept]
    umask = os.umask(0o022)  # the directories that lead to what is shown are for everyone
    try:
        for folder in outermost:
            mount("tmpfs", folder, "tmpfs", _SAFE, "mode=0755,size=1m")
        for path, source in zip(kept, sources, strict=True):
            _bind(source, path)
        for folder in outermost:
            mount_setattr(folder, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID)
    finally:
        os.umask(umask)
        for source in sources:
            os.close(source)


def show_socket_folder(folder: int) -> None:
    """Show the directory that a descriptor of `clone_mount` means at SOCKET_FOLDER."""
    Path(SOCKET_FOLDER).mkdir(mode=0o755)
    attach_mount(folder, SOCKET_FOLDER)


def mount_proc() -> None:
    """Show the processes of this PID namespace, and no others, at /proc."""
    mount("proc", "/proc", "proc", _SAFE | MS_NOEXEC)


def cover_scratch(kept: Sequence[str]) -> None:
    """Mount empty scratch directories, and in them again what is `kept`."""
    # Opened before they are covered: the way back to what is to be shown.
    sources = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in kept]
    umask = os.umask(0o022)  # the directories that lead to what is shown are for everyone
    try:
        for path in SCRATCH:
            mount("tmpfs", path, "tmpfs", _SAFE, f"mode=1777,size={SCRATCH_SIZE}")
        for path, source in zip(kept, sources, strict=True):
            _bind(source, path)  # as it was shown: read-only or not
    finally:
        os.umask(umask)
        for source in sources:
            os.close(source)


def _bind(source: int, target: str) -> None:
    """Show what the descriptor `source` means at the path `target`, with its parents made."""
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
