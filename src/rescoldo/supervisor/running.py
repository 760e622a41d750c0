"""Finds the platforms that run on this machine, their users and their addresses, by their main processes."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rescoldo.model.settings import Settings
from rescoldo.supervisor.modules import SUPERVISOR

_GUARDIAN = b"guardian.py"
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


@dataclass(frozen=True, slots=True)
class RunningPlatform:
    """A running platform."""

    pid: int  # of its guardian
    uid: int
    settings: Settings | None  # None: this user cannot read them

    def __str__(self) -> str:
        whose = "" if self.uid == os.geteuid() else f" of uid {self.uid}"
        if self.settings is None:
            return f"a rescoldo platform (process {self.pid}{whose})"
        where = f"data folder {self.settings.data}, {url_of(self.settings)}"
        return f"the rescoldo platform of process {self.pid}{whose} ({where})"


def platforms() -> list[RunningPlatform]:
    """Return all platforms that this user can see, sorted by pid."""
    pids = sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [found for found in map(_platform, pids) if found is not None]


def own_platforms() -> list[Settings]:
    """Return the settings of the platforms that this user started."""
    return [one.settings for one in platforms() if one.uid == os.geteuid() and one.settings is not None]


def platform_at(address: str) -> RunningPlatform | None:
    """Return the platform that listens at HOST:PORT: its gateway, metrics or redirect; None if there is none."""
    return next((one for one in platforms() if one.settings is not None and _listens(one.settings, address)), None)


def is_platform(pid: int) -> bool:
    """Return whether process `pid` is a platform's main process: it then listens at all addresses of the platform."""
    return _platform(pid) is not None


def url_of(settings: Settings) -> str:
    """Return the URL of a platform's gateway on this machine."""
    host, _, port = settings.gateway.rpartition(":")
    return f"{settings.scheme}://{_EVERYWHERE.get(host, host)}:{port}"


def _listens(settings: Settings, address: str) -> bool:
    host, _, port = address.rpartition(":")
    for ours in filter(None, (settings.gateway, settings.metrics, settings.redirect)):
        other, _, same = ours.rpartition(":")
        if port == same and (host == other or {host, other} & _EVERYWHERE.keys() or {host, other} <= _LOOPBACK):
            return True
    return False


def _platform(pid: int) -> RunningPlatform | None:
    process = Path(f"/proc/{pid}")
    with suppress(OSError):
        words = process.joinpath("cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        if len(words) < 3 or words[-2] != SUPERVISOR.encode() or not any(word.endswith(_GUARDIAN) for word in words):
            return None
        uid = process.stat().st_uid
        settings = None
        with suppress(OSError, ValueError, TypeError):
            file = Path(os.fsdecode(words[-1]))  # the process chose this path: trust only a file of its own user
            if file.stat().st_uid == uid:
                settings = Settings.load(file)
        return RunningPlatform(pid, uid, settings)
    return None
