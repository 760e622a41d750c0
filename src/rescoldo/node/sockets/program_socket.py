"""A Unix socket that a program binds, where the edge alone can reach it.

    run/u/INSTANCE/     a small tmpfs, so that the program cannot fill any other file system
        in/             the program's folder, the only one that its sandbox shows; $SOCKET is in it
        out/http        the same socket, for the edge: linked by the node once the program listens

The program could put a symbolic link at $SOCKET, to a socket that the edge may reach and the program may not. So
the edge never connects there, but to a hard link in a folder of the node's, and only if that is a socket.
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
from rescoldo.model.ids import EDGE_UID
from rescoldo.node.sockets.endpoint import Neighbour, Probe
from rescoldo.node.sockets.probe import accepts
from rescoldo.node.sockets.regain import regain_listener

PUBLIC = "out/http"
_NAME = "http"
SHOWN = f"{SOCKET_FOLDER}/{_NAME}"  # $SOCKET: the path in the program's sandbox
_OPTIONS = "mode=0711,size=64k,nr_inodes=32"


class ProgramSocket:
    """Implements `Endpoint` for an instance that runs as `uid`. Needs root."""

    tcp: tuple[str, int] | None = None
    foreseen = False
    gives_folder = True
    replaceable = False  # another process would bind another socket

    def __init__(self, folder: Path, uid: int) -> None:
        self.folder = folder
        self._uid = uid
        # The program's socket, once it listens: after the program's end, requests wait in it instead of failing,
        # until the edge has learned of the end.
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
        outside.chmod(0o710)  # the umask has masked mkdir's mode

    async def take_over(self, leavers: list[Neighbour]) -> float:
        return 0.0

    def open_for_child(self) -> int:
        return clone_mount(f"{self.folder}/in")

    def probing(self) -> contextlib.nullcontext[Probe]:
        return contextlib.nullcontext(self._accepts)

    def _accepts(self) -> bool:
        """Whether the program listens. If so, give the edge access to the hard link."""
        public = self._public
        public.unlink(missing_ok=True)
        try:
            os.link(self.folder / "in" / _NAME, public, follow_symlinks=False)
            if not stat.S_ISSOCK(public.lstat().st_mode) or not accepts(socket.AF_UNIX, str(public)):
                return False
        except OSError:  # the program has not bound it yet
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
        self.backlog.close()  # the program has bound another socket; the node does without a backlog
        self.backlog = None
        return True

    def put_away(self) -> None:
        if self.backlog is not None:
            self.backlog.close()
            self.backlog = None
        remove_folder(self.folder)


def remove_folder(folder: Path) -> None:
    """Unmount and remove what `ProgramSocket.make` created in `folder`."""
    with contextlib.suppress(OSError):
        unmount(str(folder))
    shutil.rmtree(folder, ignore_errors=True)
