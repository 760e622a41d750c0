"""Which platform of this machine a command uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rescoldo.cli import local
from rescoldo.cli.gateway import choose_gateway
from rescoldo.model.settings import Settings, default_data_dir
from rescoldo.supervisor import running
from rescoldo.supervisor.running import RunningPlatform, url_of


@pytest.fixture
def there(monkeypatch):
    """The running platforms."""
    found: list[RunningPlatform] = []
    monkeypatch.setattr(running, "platforms", lambda: found)
    return found


def ran(data: Path, port: int) -> Settings:
    data.mkdir(parents=True, exist_ok=True)
    settings = Settings(data=str(data), run=str(data / "run"), gateway=f"127.0.0.1:{port}", metrics="127.0.0.1:1")
    settings.save(settings.record)
    return settings


def runs(settings: Settings, uid: int | None = None) -> RunningPlatform:
    return RunningPlatform(7, os.geteuid() if uid is None else uid, settings)


def test_the_address_of_the_default_data_directory_is_remembered(there):
    assert choose_gateway("") == "http://127.0.0.1:8080"
    ran(default_data_dir(), 9000)
    assert choose_gateway("") == "http://127.0.0.1:9000"
    assert choose_gateway("", "http://127.0.0.1:8080") == "http://127.0.0.1:9000", "the address in a new stack file"
    assert choose_gateway("", "http://elsewhere:8080") == "http://elsewhere:8080"
    assert choose_gateway("http://127.0.0.1:8080") == "http://127.0.0.1:8080", "the address that was given"


def test_the_platform_started_last_is_used_while_it_runs_and_the_default_one_does_not(there, tmp_path, monkeypatch):
    other, default = ran(tmp_path / "other", 9001), ran(default_data_dir(), 9000)
    there.append(runs(other))
    assert local.local_platform(None) == default, "this user did not start it: `down` would stop another's platform"
    local.note_start(other.data_path)
    assert local.local_platform(None) == other
    assert local.local_platform(default.data_path) == default, "its data directory was given"
    there.append(runs(default))
    assert local.local_platform(None) == default
    monkeypatch.setenv("RESCOLDO_DATA", str(tmp_path / "none"))
    assert local.local_platform(None) is None


def test_a_platform_of_another_user_is_named_but_never_chosen(there, tmp_path):
    there.append(runs(ran(tmp_path / "other", 9001), uid=4321))
    assert local.local_platform(None) is None
    assert "of uid 4321" in local.others(default_data_dir())


def test_a_401_of_another_users_platform_names_its_owner_and_the_remedy(run, there, gateway, tmp_path):
    gateway.answer("GET /system/functions", 401)
    refused = f"Error: unauthorized access to {gateway.url}, run `rescoldo login`"
    there.append(runs(ran(tmp_path / "mine", 9001)))
    assert run("list")[2] == f"{refused}\n"
    there.append(RunningPlatform(8, 4321, None))
    err = run("list")[2]
    assert err.startswith(f"{refused}; other users' platforms run here: a rescoldo platform (process 8 of uid 4321); ")
    assert "rescoldo serve --detach --port PORT" in err


def test_credentials_come_from_the_platform_at_the_address(there, tmp_path):
    other = ran(tmp_path / "other", 9001)
    there.append(runs(other))
    assert local.data_folder("127.0.0.1:9001", None) == local.data_folder("localhost:9001", None) == other.data_path
    assert local.data_folder("127.0.0.1:9000", None) == default_data_dir()


@pytest.mark.parametrize(("gateway", "url"), [
    ("0.0.0.0:80", "http://127.0.0.1:80"), ("[::]:80", "http://[::1]:80"), ("10.0.0.1:80", "http://10.0.0.1:80"),
])  # fmt: skip
def test_a_gateway_on_the_wildcard_address_is_reached_on_loopback(gateway, url):
    assert url_of(Settings(data="", run="", gateway=gateway)) == url
    secure = Settings(data="", run="", gateway=gateway, tls_cert="/c.pem")
    assert url_of(secure) == url.replace("http:", "https:")


def test_status_of_an_unused_data_folder_lists_the_running_platforms(run, there, tmp_path):
    there.append(runs(ran(tmp_path / "other", 9001)))
    status, _, err = run("status", "--data", str(tmp_path / "wrong"))
    assert status == 1
    assert f"no platform has run with data directory {tmp_path}/wrong" in err
    assert f"data folder {tmp_path}/other, http://127.0.0.1:9001" in err


def test_up_is_refused_if_the_gateway_uses_another_data_folder(run, there, gateway, tmp_path):
    gateway.answer("GET /healthz", 200)
    port = int(gateway.url.rpartition(":")[2])
    there.append(runs(ran(tmp_path / "other", port)))
    run("new", "hello", "--lang", "python3")
    status, _, err = run("up", "--data", str(tmp_path / "wrong"))
    assert status == 1
    assert f"use --data {tmp_path}/other" in err
    assert set(gateway.lines()) == {"GET /healthz"}, "nothing was deployed"


def test_a_platform_that_was_named_is_never_confused_with_another_at_its_old_address(run, there, tmp_path, monkeypatch):
    named, other = ran(tmp_path / "named", 9001), ran(tmp_path / "other", 9001)
    there.append(runs(other))
    belongs = f"http://127.0.0.1:9001 belongs to {there[0]}, not to the platform of {named.data}"
    assert belongs in run("status", "--data", named.data)[2]
    monkeypatch.delenv("OPENFAAS_URL", raising=False)
    monkeypatch.setenv("RESCOLDO_DATA", named.data)
    status, _, err = run("remove", "hello")
    assert status == 1
    assert belongs in err
    assert choose_gateway("http://127.0.0.1:9001") == "http://127.0.0.1:9001", "the option wins"
    monkeypatch.setenv("RESCOLDO_DATA", other.data)
    assert choose_gateway("") == "http://127.0.0.1:9001"


@pytest.mark.parametrize("url", ["http://[::1", "http://127.0.0.1:99999", "h:port", "ftp://h", "http://"])
def test_a_gateway_that_is_no_url_is_refused_with_one_that_is(run, url):
    status, _, err = run("list", "--gateway", url)
    assert status == 1
    assert "is not a URL; write for example http://127.0.0.1:8080" in err
