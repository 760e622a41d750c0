"""Data directories in volumes of root's, as an orchestrator mounts them, in mount namespaces of these tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from rescoldo.isolation.mounts import mount_proc
from rescoldo.isolation.syscalls import CLONE_NEWNS, CLONE_NEWPID, MS_PRIVATE, MS_REC, mount, unshare
from rescoldo.model.datadir import data_dir
from rescoldo.model.errors import InvalidInput
from rescoldo.supervisor.folders import make
from support.children import told_by_child

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount volumes"),
]

USER = 1_000_730_000  # as OpenShift chooses them, in root's group
GROUP = 2_000  # fsGroup
EMPTY_DIR, WITH_GROUP, STICKY, CLOSED = "mode=0777", f"mode=2775,gid={GROUP}", "mode=1777", "mode=0755"


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


MACHINE, CONTAINER, SHARED = "machine", "container", "container with another user"


def told(volume: Path, options: str, action: Callable[[], object], *, where: str = CONTAINER, uid: int = USER) -> str:
    """Mount `volume` and call `action` as a user; return what it returns."""

    def as_user() -> object:
        if where != MACHINE:
            mount_proc()
        if where == SHARED:
            begin_neighbour()
        os.setgroups([GROUP])
        os.setresgid(0, 0, 0)
        os.setresuid(uid, uid, uid)
        return action()

    def in_namespaces() -> str:
        unshare(CLONE_NEWNS | (CLONE_NEWPID if where != MACHINE else 0))
        mount("none", "/", flags=MS_REC | MS_PRIVATE)
        if options:
            mount("tmpfs", str(volume), "tmpfs", options=options)
        return told_by_child(as_user)

    return told_by_child(in_namespaces)


def begin_neighbour() -> None:
    """Start a process of another user, which ends with its PID namespace."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setresuid(4711, 4711, 4711)
        os.write(writer, b"1")
        signal.pause()
    os.read(reader, 1)


@pytest.mark.parametrize("options", [EMPTY_DIR, WITH_GROUP, STICKY])
def test_in_a_container_a_volume_of_roots_holds_the_data_directory(volume: Path, options: str) -> None:
    assert told(volume, options, lambda: data_dir(volume)) == f"{volume}/rescoldo"


@pytest.mark.parametrize("where", [MACHINE, SHARED])
@pytest.mark.parametrize(("options", "found"), [(EMPTY_DIR, ""), (WITH_GROUP, ""), (STICKY, "/rescoldo")])
def test_where_others_may_have_processes_a_volume_must_be_sticky(
    volume: Path, options: str, found: str, where: str
) -> None:
    assert told(volume, options, lambda: data_dir(volume), where=where) == f"{volume}{found}"


def test_an_own_folder_in_a_volume_is_found_beside_other_users_too(volume: Path) -> None:
    def after_mkdir() -> Path:
        (volume / "rescoldo").mkdir()
        return data_dir(volume)

    assert told(volume, EMPTY_DIR, after_mkdir, where=SHARED) == f"{volume}/rescoldo"


def test_a_link_in_a_volume_is_no_own_folder(volume: Path) -> None:
    def after_link() -> Path:
        (volume / "rescoldo").symlink_to("/tmp")
        return data_dir(volume)

    assert told(volume, EMPTY_DIR, after_link, where=SHARED) == str(volume)


@pytest.mark.parametrize(
    ("options", "uid"),
    [
        (CLOSED, USER),  # not writable
        (EMPTY_DIR, 0),  # root's own
        (f"{EMPTY_DIR},uid={USER}", USER),  # this user's own
        (f"{EMPTY_DIR},uid=4711", USER),  # neither's
        ("", USER),  # no mount point
    ],
)
def test_any_other_folder_is_the_data_directory_itself(volume: Path, options: str, uid: int) -> None:
    volume.chmod(0o777)
    assert told(volume, options, lambda: data_dir(volume), uid=uid) == str(volume)


def test_the_error_for_a_volume_that_is_not_used_names_the_remedy(volume: Path) -> None:
    def refused() -> str:
        with pytest.raises(InvalidInput) as caught:
            make(data_dir(volume), 0o700)
        return caught.value.message

    said = told(volume, EMPTY_DIR, refused, where=MACHINE)
    remedy = "name a folder of your own in it, or choose another data directory"
    assert said == f"{volume} belongs to another user; {remedy}"


def test_a_relative_path_becomes_absolute_and_need_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert data_dir(Path("none/here")) == tmp_path / "none" / "here"
