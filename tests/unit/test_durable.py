"""A folder's entries are synced to disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rescoldo.durable import sync_folder


def test_the_folder_itself_is_synced_and_its_descriptor_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append((fd, Path(f"/proc/self/fd/{fd}").readlink())))
    sync_folder(tmp_path)
    ((descriptor, folder),) = synced
    assert folder == tmp_path
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_missing_folder_and_a_file_are_errors(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "none")
    with pytest.raises(NotADirectoryError):
        sync_folder(tmp_path / "file")
