"""Where a program binds a Unix socket of its own, for the edge to reach it and nobody else.

    run/u/INSTANCE/     a small tmpfs, so that the program can fill nothing that is not its own
        in/             the program's own folder; it alone is shown to it, and $SOCKET is in it
        out/http        the same socket, for the edge: made by the node once the program listens

The program could put a symbolic link at $SOCKET, to a socket that the edge may reach and the program may not. So the
edge is never sent there, but to a hard link in a folder of the node's, and only when that is a socket.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from rescoldo.isolation.mounts import SOCKET_FOLDER
from rescoldo.isolation.syscalls import MS_NODEV, MS_NOEXEC, MS_NOSUID, clone_mount, mount, unmount
from rescoldo.model.settings import EDGE_UID
from rescoldo.node.sockets.endpoint import Neighbour, Probe
from rescoldo.node.sockets.probe import accepts
from rescoldo.node.sockets.regain import regain_listener

PUBLIC = "out/http"
_NAME = "http"
SHOWN = f"{SOCKET_FOLDER}/{_NAME}"  # $SOCKET: the path as the program sees it
_OPTIONS = "mode=0711,size=64k,nr_inodes=32"


class ProgramSocket:
    """Implements `Endpoint`, of one instance that runs as `uid`. Needs root."""

    tcp: tuple[str, int] | None = None
    foreseen = False
    gives_folder = True
    replaceable = False  # what another process binds is another socket

    def __init__(self, folder: Path, uid: int) -> None:
        self.folder = folder
        self._uid = uid
        # The program's socket, once it listens: should the program end, requests wait in it rather than fail, until the
        # edge has been told.
        self.backlog: socket.socket | None = None

    @property
    def address(self) -> str:
        return f"unix@{self.folder}/{PUBLIC}"

    @property
    def backlog_address(self) -> str:
        return self.address

    @property
    def variables(self) -> Mapping[str, str]:
        return {"SOCKET": SHOWN}

    @property
    def is_whole(self) -> bool:
        return self._public.is_socket()

    @property
    def _public(self) -> Path:
        return self.folder / PUBLIC

    def leavers(self, others: Iterable[Neighbour], *, successor: bool) -> list[Neighbour]:
        return []

    def make(self) -> None:
        try:
            self._make_folders()
        except OSError:
            self.put_away()
            raise

    def _make_folders(self) -> None:
        inside, outside = self.folder / "in", self.folder / "out"
        self.folder.mkdir(mode=0o711)
        mount("tmpfs", str(self.folder), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, _OPTIONS)
        inside.mkdir(mode=0o700)
        outside.mkdir(mode=0o710)
        os.chown(inside, self._uid, self._uid)
        os.chown(outside, 0, EDGE_UID)
        outside.chmod(0o710)  # mkdir's mode has passed the umask

    async def take_over(self, leavers: list[Neighbour]) -> float:
        return 0.0

    def open_for_child(self) -> int:
        return clone_mount(f"{self.folder}/in")

    def probing(self) -> contextlib.nullcontext[Probe]:
        return contextlib.nullcontext(self._accepts)

    def _accepts(self) -> bool:
        """Whether the program listens; the edge may connect from then on."""
        public = self._public
        public.unlink(missing_ok=True)
        try:
            os.link(self.folder / "in" / _NAME, public, follow_symlinks=False)
            if not stat.S_ISSOCK(public.lstat().st_mode) or not accepts(socket.AF_UNIX, str(public)):
                return False
        except OSError:  # it is not there yet
            return False
        os.chown(public, EDGE_UID, EDGE_UID)
        public.chmod(0o600)
        return True

    def became_ready(self, pid: int) -> None:
        self.backlog = regain_listener(pid, SHOWN)

    def adopt(self, pid: int) -> None:
        self.backlog = regain_listener(pid, SHOWN)

    def renew(self) -> bool:
        assert self.backlog is not None
        if not accepts(socket.AF_UNIX, str(self._public)):
            return False
        self.backlog.close()  # it has bound another one, which we do without
        self.backlog = None
        return True

    def put_away(self) -> None:
        if self.backlog is not None:
            self.backlog.close()
            self.backlog = None
        remove_folder(self.folder)


def remove_folder(folder: Path) -> None:
    """Remove what `ProgramSocket.make` has made in `folder`."""
    with contextlib.suppress(OSError):
        unmount(str(folder))
    shutil.rmtree(folder, ignore_errors=True)
