"""A platform as a service of systemd: the unit that runs `rescoldo serve` at boot and restarts it when it fails.

The unit's main process is the guardian. When the guardian is killed, systemd ends the remaining processes and starts
the platform anew: systemd cannot learn that the supervisor has become the next guardian.

Source: systemd.service(5), systemd.kill(5) and systemd.exec(5). The options are those of systemd 244 and later.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rescoldo.model.errors import Conflict, InvalidInput, NotFound
from rescoldo.supervisor.parts import CONTROLLER_GRACE, NODE_GRACE

NAME = "rescoldo.service"
SYSTEM_UNITS = Path("/etc/systemd/system")
MARK = "# Written by `rescoldo serve --install-service` for "
# Edge and controller end together, then the node; the rest is for a slow disk: 10 + 15 + 35 = 60 s.
STOP_SECONDS = CONTROLLER_GRACE + NODE_GRACE + 35.0
# Capabilities that no part of a platform uses. Sandboxes need the others: mounts, namespaces, uids, BPF, devices.
UNUSED_RIGHTS = (
    "CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_BLOCK_SUSPEND", "CAP_LINUX_IMMUTABLE", "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE", "CAP_SYSLOG", "CAP_SYS_BOOT", "CAP_SYS_MODULE", "CAP_SYS_PACCT", "CAP_SYS_RAWIO",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_WAKE_ALARM",
)  # fmt: skip
_PLAIN = re.compile(r"[\w@+=:,./-]+")


@dataclass(frozen=True, slots=True)
class Service:
    """The service of one platform. `command` runs it in the foreground, with `environment` besides systemd's own;
    `data` is its data directory, absolute."""

    command: Sequence[str]
    environment: Mapping[str, str]
    data: str
    of_user: bool  # for the user's own systemd, not the machine's
    longest_drain: float = 0.0  # seconds before the parts begin to stop

    @property
    def path(self) -> Path:
        """Where systemd looks for the unit."""
        if not self.of_user:
            return SYSTEM_UNITS / NAME
        config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config").absolute()
        return config / "systemd" / "user" / NAME

    @property
    def mark(self) -> str:
        """The unit's first line, which names the data directory of its platform."""
        return f"{MARK}{self.data}"

    @property
    def starting(self) -> tuple[str, ...]:
        """The commands that, after `install`, start the service now and at each boot."""
        return (f"{self._systemctl} daemon-reload", f"{self._systemctl} enable --now {NAME}")

    @property
    def restarting(self) -> tuple[str, ...]:
        """The commands that, after `install` has replaced a unit, put the new one to use: `enable --now` leaves a
        service as it is that runs."""
        systemctl = self._systemctl
        return (f"{systemctl} daemon-reload", f"{systemctl} enable {NAME}", f"{systemctl} restart {NAME}")

    @property
    def stopping(self) -> tuple[str, ...]:
        """The commands that, after `uninstall`, stop the service."""
        return (f"{self._systemctl} stop {NAME}", f"{self._systemctl} daemon-reload")

    @property
    def _systemctl(self) -> str:
        return "systemctl --user" if self.of_user else "systemctl"

    def unit(self) -> str:
        """The unit file's text."""
        environment = "".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in self.environment.items())
        return (
            f"{self.mark}\n# `--uninstall-service` removes it, `{self._systemctl} edit {NAME}` changes it.\n"
            f"[Unit]\nDescription=rescoldo, serverless functions\n{'' if self.of_user else _AFTER_NETWORK}"
            "StartLimitIntervalSec=300\nStartLimitBurst=10\n\n"
            f"[Service]\nType=exec\nExecStart=:{' '.join(map(_quoted, self.command))}\n{environment}{_LIFE}"
            f"TimeoutStopSec={STOP_SECONDS + self.longest_drain:g}\n{_RESOURCES}"
            f"{'' if self.of_user else _HARDENING}\n"
            f"[Install]\nWantedBy={'default' if self.of_user else 'multi-user'}.target\n"
        )


_AFTER_NETWORK = "Wants=network-online.target\nAfter=network-online.target\n"
_LIFE = """\
# 78: it would fail again in the same way. `rescoldo down` ends it with 0, which is no failure.
Restart=on-failure
RestartSec=1
RestartPreventExitStatus=78
# SIGTERM goes to the guardian alone, which stops the parts in order.
KillMode=mixed
"""
_RESOURCES = """\
# Instances have groups, limits and ends of their own: one that runs out of memory is no failure of the platform.
Delegate=yes
TasksMax=infinity
OOMPolicy=continue
NoNewPrivileges=yes
"""
_HARDENING = f"""\
# /usr, /boot and /etc are read-only.
ProtectSystem=full
CapabilityBoundingSet=~{" ".join(UNUSED_RIGHTS)}
"""


def install(service: Service, *, overwrite: bool) -> bool:
    """Write the unit; return whether one was there. Raises Conflict when that one is not this platform's, unless
    `overwrite`, and InvalidInput when the unit cannot be written."""
    path = service.path
    head = _head(path)
    if head is not None and head != service.mark and not overwrite:
        raise Conflict(f"{path} already exists and is {_owner(head)}; --yes replaces it")
    aside = path.with_name(f".{NAME}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(service.unit())
        aside.chmod(0o644)
        aside.replace(path)
    except OSError as error:
        raise _not_changed(path, error) from error
    return head is not None


def uninstall(service: Service, *, overwrite: bool) -> None:
    """Remove the unit and the link by which systemd starts it at boot. Raises NotFound, Conflict when the unit is not
    this platform's, unless `overwrite`, and InvalidInput when the unit cannot be removed."""
    path = service.path
    head = _head(path)
    if head is None:
        raise NotFound(f"no service is installed: {path} does not exist")
    if head != service.mark and not overwrite:
        raise Conflict(f"{path} is {_owner(head)}; --yes removes it anyway")
    try:
        for link in path.parent.glob(f"*.wants/{NAME}"):
            link.unlink()
        path.unlink()
    except OSError as error:
        raise _not_changed(path, error) from error


def _head(path: Path) -> str | None:
    """The first line of the installed unit; None when none is installed."""
    try:
        return path.read_text(errors="replace").partition("\n")[0]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _not_changed(path, error) from error


def _owner(head: str) -> str:
    return f"that of the platform of {head.removeprefix(MARK)}" if head.startswith(MARK) else "not written by rescoldo"


def _not_changed(path: Path, error: OSError) -> InvalidInput:
    hint = "; run it as root, or add --user for a service of your own" if isinstance(error, PermissionError) else ""
    return InvalidInput(f"cannot change {path}: {error.strerror}{hint}")


def _quoted(word: str) -> str:
    """One word of ExecStart. `%` begins a specifier; `$` means itself, as the command begins with `:`."""
    word = word.replace("%", "%%")
    if _PLAIN.fullmatch(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'
