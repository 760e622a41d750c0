"""A folder's entries are synced to disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rescoldo.durable import replace_private, sync_folder


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


def test_a_private_file_is_replaced_as_a_whole_and_never_through_a_link(tmp_path: Path) -> None:
    file, other = tmp_path / "key", tmp_path / "other"
    replace_private(file, b"one")
    replace_private(file, b"two")
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"two", 0o600)
    other.write_bytes(b"theirs")
    (tmp_path / "key.new").symlink_to(other)
    with pytest.raises(OSError, match="symbolic links"):
        replace_private(file, b"three")
    assert (file.read_bytes(), other.read_bytes()) == (b"two", b"theirs")
