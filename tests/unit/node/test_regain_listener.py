"""A node takes a listener back from an instance that opens and closes other descriptors meanwhile."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from rescoldo.node.sockets import regain


def test_a_descriptor_closed_meanwhile_does_not_hide_the_listener(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s"
    taken: list[int] = []

    def take(pidfd: int, number: int) -> int:
        taken.append(number)
        if len(taken) == 1:
            raise OSError(errno.EBADF, "closed since it was listed")
        return os.dup(listener.fileno())

    other, listener = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    with other, listener:
        listener.bind(str(path))
        listener.listen()
        monkeypatch.setattr(regain, "take_descriptor", take)
        found = regain.regain_listener(os.getpid(), str(path))
        assert found is not None
        with found:
            assert found.getsockname() == str(path)
