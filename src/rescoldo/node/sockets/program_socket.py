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
from dataclasses import dataclass
from pathlib import Path

from rescoldo.isolation.mounts import SOCKET_FOLDER
from rescoldo.isolation.syscalls import MS_NODEV, MS_NOEXEC, MS_NOSUID, clone_mount, mount, unmount
from rescoldo.model.settings import EDGE_UID
from rescoldo.node.sockets.probe import accepts

PUBLIC = "out/http"
_NAME = "http"
_OPTIONS = "mode=0711,size=64k,nr_inodes=32"


@dataclass(frozen=True, slots=True)
class ProgramSocket:
    """One instance's, which runs as `uid`. Needs root."""

    folder: Path
    uid: int

    @property
    def shown(self) -> str:
        """$SOCKET: the path as the program sees it."""
        return f"{SOCKET_FOLDER}/{_NAME}"

    def make(self) -> None:
        """Make the folders. Raises OSError."""
        inside, outside = self.folder / "in", self.folder / "out"
        self.folder.mkdir(mode=0o711)
        mount("tmpfs", str(self.folder), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, _OPTIONS)
        inside.mkdir(mode=0o700)
        outside.mkdir(mode=0o710)
        os.chown(inside, self.uid, self.uid)
        os.chown(outside, 0, EDGE_UID)
        outside.chmod(0o710)  # mkdir's mode has passed the umask

    def open(self) -> int:
        """A descriptor of the program's folder, to be shown to it and closed. Raises OSError."""
        return clone_mount(f"{self.folder}/in")

    def accepts(self) -> bool:
        """Whether the program listens; the edge may connect from then on."""
        public = self.folder / PUBLIC
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

    def remove(self) -> None:
        """Remove all of it."""
        with contextlib.suppress(OSError):
            unmount(str(self.folder))
        shutil.rmtree(self.folder, ignore_errors=True)
