"""Reads and writes passwords of gateways: those in faas-cli's ~/.openfaas/config.yml, so that both tools share
them, and the password of the platform on this machine."""

from __future__ import annotations

import base64
import os
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rescoldo.cli.local import data_folder
from rescoldo.model.errors import RescoldoError
from rescoldo.model.password import read_password
from rescoldo.model.settings import Settings
from rescoldo.stack.document import Document, Value, dump, parse
from rescoldo.stack.source import read_source

_PORTS = {"http": 80, "https": 443}


def config_file() -> Path:
    """Return the file in which faas-cli keeps its gateways."""
    return Path.home() / ".openfaas" / "config.yml"


def authorization(gateway: str, token: str, data: Path | None) -> str:
    """Return the Authorization header for `gateway`; empty if there are no credentials.

    A token from the command line comes first, then the saved password, then the local platform's own password. The
    local platform's password never leaves this machine.
    """
    if token:
        return f"Bearer {token}"
    for auth in _entries():
        if _same(auth.get("gateway"), gateway) and auth.get("token"):
            return f"{'Bearer' if auth.get('auth') == 'oauth2' else 'Basic'} {auth['token']}"
    return _local(gateway, data) if is_loopback(gateway) else ""


def is_loopback(url: str) -> bool:
    """Return whether `url` names this machine and no other."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def basic(user: str, password: str) -> str:
    """Encode user and password for HTTP's Basic scheme."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def save(gateway: str, user: str, password: str) -> None:
    """Save the password of `gateway` in a file that only this user may read."""
    entries = [auth for auth in _entries() if not _same(auth.get("gateway"), gateway)]
    entries.append({"gateway": gateway, "auth": "basic", "token": basic(user, password)})
    _write(entries)


def forget(gateway: str) -> bool:
    """Remove the password of `gateway`; False if none was saved."""
    entries = _entries()
    kept = [auth for auth in entries if not _same(auth.get("gateway"), gateway)]
    if len(kept) == len(entries):
        return False
    _write(kept)
    return True


def known() -> list[str]:
    """Return the gateways with saved passwords."""
    return [auth["gateway"] for auth in _entries() if isinstance(auth.get("gateway"), str)]


def _same(one: object, other: str) -> bool:
    return isinstance(one, str) and _plain(one) == _plain(other)


def _plain(gateway: str) -> tuple[str, str, int | None, str]:
    """Normalize a gateway's address, so that different spellings of one address compare equal."""
    parts = urlsplit(gateway.strip() if "://" in gateway else f"http://{gateway.strip()}")
    host = "localhost" if is_loopback(parts.geturl()) else parts.hostname or ""
    try:
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:  # an invalid port: no platform has this address
        port = None
    return parts.scheme, host, port, parts.path.rstrip("/")


def _root() -> Value | None:
    if not config_file().is_file():
        return None
    source = read_source(str(config_file()))
    return parse(source.text, Document(source.name))


def _entries() -> list[dict[str, Any]]:
    root = _root()
    auths = root.table().get("auths") if root else None
    return [item.plain_table() for item in auths.items()] if auths else []


def _write(entries: list[dict[str, Any]]) -> None:
    root = _root()
    file = config_file()
    text = dump((root.plain_table() if root else {}) | {"auths": entries})
    partial = file.with_name(f".config.yml.{os.getpid()}")
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(text)
        partial.replace(file)
    except OSError as error:
        raise RescoldoError(f"{file}: cannot be written: {error.strerror}") from error


def _local(gateway: str, data: Path | None) -> str:
    place = data_folder(urlsplit(gateway).netloc, data)
    secrets = Settings(data=str(place), run="").secrets
    try:
        names = ("basic-auth-user", "basic-auth-password")
        user, password = (read_password((secrets / name).read_text()) for name in names)
    except (OSError, UnicodeDecodeError):
        return ""
    return f"Basic {basic(user, password)}"
