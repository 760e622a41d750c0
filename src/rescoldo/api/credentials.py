"""Files with the gateway's user and password and the secret of builds, as OpenFaaS's clients and installers expect.

Sources: file names from https://github.com/openfaas/faas-provider (auth), the payload secret from
https://docs.openfaas.com/openfaas-pro/builder. Neither logs nor repr may show a value.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from rescoldo.model.errors import InvalidInput, StoreError
from rescoldo.model.password import read_password

USER_FILE = "basic-auth-user"
PASSWORD_FILE = "basic-auth-password"
PAYLOAD_FILE = "payload-secret"  # the key of signatures by `faas-cli up --remote-builder`
DEFAULT_USER = "admin"
PASSWORD_BYTES = 32  # of randomness: 43 url-safe characters


@dataclass(frozen=True, slots=True)
class Credentials:
    """User and password of HTTP basic authentication."""

    user: str = field(repr=False)
    password: str = field(repr=False)


def load_or_create(secrets_dir: Path) -> Credentials:
    """Read the credentials in `secrets_dir`; make both files (0600, in a folder 0700) when neither exists.

    Raises InvalidInput when one file is missing, empty or not text, StoreError when a file cannot be read or written.
    """
    user, password = secrets_dir / USER_FILE, secrets_dir / PASSWORD_FILE
    try:
        if not user.exists() and not password.exists():
            secrets_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            secrets_dir.chmod(0o700)
            _write_together({password: secrets.token_urlsafe(PASSWORD_BYTES), user: DEFAULT_USER})
        return Credentials(_read(user), _read(password))
    except OSError as error:
        raise StoreError(f"credentials in {secrets_dir}: {error.strerror}: check owner and mode") from error


def restore(secrets_dir: Path, credentials: Credentials | None, payload_secret: bytes) -> bool:
    """Write missing files again; return whether any was missing. Raises StoreError."""
    texts = {secrets_dir / PAYLOAD_FILE: payload_secret.decode()}
    if credentials is not None:
        texts |= {secrets_dir / USER_FILE: credentials.user, secrets_dir / PASSWORD_FILE: credentials.password}
    missing = {path: text for path, text in texts.items() if not path.exists()}
    if not missing:
        return False
    try:
        secrets_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_together(missing)
    except OSError as error:
        raise StoreError(f"credentials in {secrets_dir}: {error.strerror}: check owner and mode") from error
    return True


def load_or_create_payload_secret(secrets_dir: Path) -> bytes:
    """Read the key of builds' signatures; make its file (0600) when it does not exist. The text is stripped, as
    faas-cli trims white space. Raises as `load_or_create`."""
    path = secrets_dir / PAYLOAD_FILE
    try:
        if not path.exists():
            secrets_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            secrets_dir.chmod(0o700)
            _write_together({path: secrets.token_urlsafe(PASSWORD_BYTES)})
        return _read(path).strip().encode()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}: check owner and mode") from error


def _read(path: Path) -> str:
    remedy = "write it, or remove the file and rescoldo makes a new one"
    if path.name != PAYLOAD_FILE:
        remedy = "write it, or remove both files and rescoldo makes new ones"
    try:
        text = read_password(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidInput(f"{path} is missing: {remedy}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text: {remedy}") from error
    if not text:
        raise InvalidInput(f"{path} is empty: {remedy}")
    if path.name == USER_FILE and ":" in text:
        raise InvalidInput(f"{path}: a user name cannot hold ':' (RFC 7617)")
    return text


def _write_together(texts: dict[Path, str]) -> None:
    """Write all files under temporary names first, so that a full disk leaves none of them."""
    ready: dict[Path, Path] = {}
    try:
        for path, text in texts.items():
            fd, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # mode 0600
            ready[path] = Path(name)
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        for path, partial in ready.items():
            partial.replace(path)
    finally:
        for partial in ready.values():
            partial.unlink(missing_ok=True)
