"""Where the run folder is, and how a data directory's platform is found."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from rescoldo.model import rundir
from rescoldo.model.rundir import LONGEST, last_settings, run_dir_for
from rescoldo.model.settings import Settings

USER = 1234


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with logind, where /run, /dev/shm and $XDG_RUNTIME_DIR are in memory and /tmp is not."""
    memory = {Path("/run"), Path("/dev/shm"), Path("/run/user/1234")}
    monkeypatch.setattr(rundir, "_in_memory", memory.__contains__)
    monkeypatch.setattr(rundir, "LOGINS", tmp_path)
    monkeypatch.setattr(rundir, "LINGERING", tmp_path / "linger")
    monkeypatch.setattr(rundir.os, "geteuid", lambda: USER)
    monkeypatch.setattr(rundir.pwd, "getpwuid", lambda uid: type("Entry", (), {"pw_name": "ann"}))
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1234")
    return memory


def test_a_users_run_folder_is_where_no_logout_removes_it(machine, tmp_path):
    assert run_dir_for(Path("/home/ann/data")) == Path("/home/ann/data/run")
    machine.add(Path("/tmp"))
    assert run_dir_for(Path("/home/ann/data")).parent == Path("/tmp/rescoldo-1234")


def test_the_run_folder_is_in_shared_memory_if_logind_leaves_that_alone(machine, tmp_path, monkeypatch):
    (tmp_path / "linger").mkdir()
    (tmp_path / "linger" / "ann").touch()
    assert run_dir_for(Path("/data")).parent == Path("/dev/shm/rescoldo-1234"), "the user lingers"
    (tmp_path / "linger" / "ann").unlink()
    monkeypatch.setattr(rundir, "LOGINS", tmp_path / "none")
    assert run_dir_for(Path("/data")).parent == Path("/dev/shm/rescoldo-1234"), "no logind"
    monkeypatch.setattr(rundir, "LOGINS", tmp_path)
    monkeypatch.setattr(rundir.os, "geteuid", lambda: 999)
    assert run_dir_for(Path("/data")).parent == Path("/dev/shm/rescoldo-999"), "a system user"


def test_roots_run_folder_is_below_run(machine, monkeypatch):
    monkeypatch.setattr(rundir.os, "geteuid", lambda: 0)
    assert run_dir_for(Path("/data")).parent == Path("/run/rescoldo-0")
    machine.discard(Path("/run"))
    assert run_dir_for(Path("/data")).parent == Path("/dev/shm/rescoldo-0")


def test_the_run_folder_is_elsewhere_if_the_data_directorys_path_is_too_long_for_sockets(machine):
    name = Path("/" + "x" * (LONGEST - 5))
    assert run_dir_for(name) == name / "run"
    longer = Path("/" + "x" * (LONGEST - 4))
    assert run_dir_for(longer).parent == Path("/var/tmp/rescoldo-1234")
    assert len(f"{run_dir_for(longer)}/i/{'f' * 20}-{'0' * 10}.sock") <= 97


@pytest.fixture
def settings(tmp_path):
    data, run = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    run.mkdir()
    return Settings(data=str(data), run=str(run), gateway="127.0.0.1:9000")


def test_a_platform_is_found_by_the_record_in_its_data_directory(settings):
    assert last_settings(settings.data_path) is None
    settings.save(settings.record)
    assert last_settings(settings.data_path) == settings
    settings.run_path.rmdir()
    assert last_settings(settings.data_path) == settings, "the record outlives the platform"


def test_a_platform_of_an_earlier_version_is_found_in_that_versions_run_folder(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "xdg"))
    earlier = tmp_path / "xdg" / f"rescoldo-{os.geteuid()}" / rundir._key(settings.data_path)
    earlier.mkdir(parents=True)
    old = replace(settings, run=str(earlier), gateway="127.0.0.1:7000")
    old.save()
    assert last_settings(settings.data_path) == old
    stale = replace(settings, run=str(tmp_path / "gone"))
    stale.save(settings.record)
    assert last_settings(settings.data_path) == old, "the run folder counts more than a record"


def test_settings_that_are_not_the_platforms_own_are_ignored(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    place = tmp_path / f"rescoldo-{os.geteuid()}" / rundir._key(settings.data_path)
    place.mkdir(parents=True)
    other = replace(settings, data=str(tmp_path / "other"), run=str(place))
    other.save()
    assert last_settings(settings.data_path) is None, "of another data directory"
    (place / "settings.json").unlink()
    settings.save(tmp_path / "mine.json")
    (place / "settings.json").symlink_to(tmp_path / "mine.json")
    assert last_settings(settings.data_path) is None, "a link"
    settings.record.write_text("[]")
    assert last_settings(settings.data_path) is None, "not settings"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to somebody else")
def test_settings_that_another_user_wrote_are_ignored(settings):
    settings.save(settings.record)
    os.chown(settings.record, 12345, 12345)
    assert last_settings(settings.data_path) is None
