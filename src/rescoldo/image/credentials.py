"""Passwords of registries, from where `docker login` keeps them: config.json in $DOCKER_CONFIG or ~/.docker, and the
programs that it names (https://docs.docker.com/reference/cli/docker/login/#credential-helpers)."""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rescoldo.image.reference import DOCKER
from rescoldo.model.errors import InvalidInput

_DOCKER_KEY = "https://index.docker.io/v1/"  # what config.json calls docker.io
_TOKEN_USER = "<token>"  # a helper's user name that says: the secret is an identity token
_REPAIR = "repair it, or name another folder as $DOCKER_CONFIG"
_HELPER_SECONDS = 60.0  # a helper may ask its cloud


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to log in to a registry: a user and password, or an identity token (OAuth 2's refresh token)."""

    user: str = ""
    password: str = ""
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r})"


def find_credentials(registry: str) -> Credentials | None:
    """Return what `docker login REGISTRY` saved; None without it. Raises InvalidInput, which names the file."""
    file = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    try:
        config = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{file} cannot be read ({error}): {_REPAIR}") from error
    if not isinstance(config, dict):
        raise InvalidInput(f"{file} is no JSON object: {_REPAIR}")
    key = _DOCKER_KEY if registry == DOCKER else registry
    helper = _table(config, "credHelpers").get(key) or config.get("credsStore")
    if isinstance(helper, str) and helper:
        return _ask(helper, key)
    for name in (key, registry, f"https://{registry}", f"https://{registry}/v2/", f"https://{registry}/v1/"):
        if isinstance(saved := _table(config, "auths").get(name), dict) and (found := _saved(saved, file)) is not None:
            return found
    return None


def _table(config: dict[str, Any], name: str) -> dict[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _saved(saved: dict[str, Any], file: Path) -> Credentials | None:
    if token := saved.get("identitytoken"):
        return Credentials(identity_token=str(token))
    if saved.get("username"):
        return Credentials(str(saved["username"]), str(saved.get("password", "")))
    try:
        user, _, password = base64.b64decode(str(saved.get("auth", "")), validate=True).decode().partition(":")
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"{file} holds a login that cannot be read: log in again with `docker login`") from error
    return Credentials(user, password) if user else None


def _ask(helper: str, registry: str) -> Credentials | None:
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"], input=registry, capture_output=True, text=True, check=False, timeout=_HELPER_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InvalidInput(f"{program}, which Docker's config.json names, does not run: {error}") from error
    if done.returncode:
        if "credentials not found" in done.stdout + done.stderr:  # the helpers' own words
            return None
        raise InvalidInput(f"{program} has no password of {registry}: {(done.stdout + done.stderr).strip()[:300]}")
    try:
        found = json.loads(done.stdout)
        user, secret = str(found["Username"]), str(found["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{program} answers in no form that is known: {error}") from error
    return Credentials(identity_token=secret) if user == _TOKEN_USER else Credentials(user, secret)
