"""Passwords of registries, from where `docker login` keeps them."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from rescoldo.image.credentials import Credentials, find_credentials
from rescoldo.model.errors import InvalidInput


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def save(home: Path, **config: Any) -> None:
    (home / "config.json").write_text(json.dumps(config))


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def helper(home: Path, name: str, script: str) -> None:
    program = home / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_nobody_logged_in(home: Path) -> None:
    assert find_credentials("ghcr.io") is None
    save(home, auths={})
    assert find_credentials("ghcr.io") is None


@pytest.mark.parametrize(
    ("saved", "found"),
    [
        ({"auth": encoded("me:pass:word")}, Credentials("me", "pass:word")),
        ({"username": "me", "password": "word"}, Credentials("me", "word")),
        ({"auth": encoded("me:"), "identitytoken": "token"}, Credentials(identity_token="token")),
        ({}, None),
    ],
)
def test_a_login_in_the_file(home: Path, saved: dict[str, str], found: Credentials | None) -> None:
    save(home, auths={"ghcr.io": saved})
    assert find_credentials("ghcr.io") == found


@pytest.mark.parametrize(
    ("registry", "key"),
    [("docker.io", "https://index.docker.io/v1/"), ("ghcr.io", "https://ghcr.io"), ("a:5000", "https://a:5000/v2/")],
)
def test_keys_that_docker_writes(home: Path, registry: str, key: str) -> None:
    save(home, auths={key: {"auth": encoded("me:word")}})
    assert find_credentials(registry) == Credentials("me", "word")
    assert find_credentials("other.io") is None


def test_a_helper_of_one_registry_is_asked_for_it(home: Path) -> None:
    script = """read -r asked; echo "{\\"Username\\": \\"for $asked $1\\", \\"Secret\\": \\"word\\"}\""""
    helper(home, "here", script)
    save(home, credHelpers={"ghcr.io": "here"}, auths={"quay.io": {"auth": encoded("me:word")}})
    assert find_credentials("ghcr.io") == Credentials("for ghcr.io get", "word")
    assert find_credentials("quay.io") == Credentials("me", "word")


def test_a_helper_of_all_registries(home: Path) -> None:
    helper(home, "all", """echo '{"Username": "<token>", "Secret": "word"}'""")
    save(home, credsStore="all")
    assert find_credentials("docker.io") == Credentials(identity_token="word")


def test_a_helper_without_the_password(home: Path) -> None:
    helper(home, "none", "echo 'credentials not found in native keychain'; exit 1")
    save(home, credsStore="none")
    assert find_credentials("ghcr.io") is None


@pytest.mark.parametrize(
    ("script", "said"),
    [("echo locked >&2; exit 1", "docker-credential-bad has no password of ghcr.io: locked"),
     ("echo nonsense", "docker-credential-bad answers in no form that is known")],
)  # fmt: skip
def test_a_helper_that_fails(home: Path, script: str, said: str) -> None:
    helper(home, "bad", script)
    save(home, credsStore="bad")
    with pytest.raises(InvalidInput, match=said):
        find_credentials("ghcr.io")


def test_a_helper_that_is_not_installed(home: Path) -> None:
    save(home, credsStore="of-no-machine")
    with pytest.raises(InvalidInput, match=r"docker-credential-of-no-machine, .* does not run"):
        find_credentials("ghcr.io")


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": {"ghcr.io": {"auth": "%"}}}'])
def test_a_file_that_cannot_be_read_is_named(home: Path, text: str) -> None:
    (home / "config.json").write_text(text)
    with pytest.raises(InvalidInput, match=str(home / "config.json")):
        find_credentials("ghcr.io")


def test_a_password_is_not_printed() -> None:
    assert "word" not in repr(Credentials("me", "word", "word"))
