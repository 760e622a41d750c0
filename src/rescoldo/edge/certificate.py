"""Checks the gateway's certificate, or a worker's towards its gateways, and copies it to where the edge reads it.

The edge reads the copy alone, so that neither a file that is being replaced nor a broken one can stop an edge.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from rescoldo.edge import process
from rescoldo.edge.config import config_file
from rescoldo.model.errors import InvalidInput, RescoldoError
from rescoldo.model.settings import Settings

log = logging.getLogger(__name__)


def install(settings: Settings) -> bool:
    """Check the files of --tls-cert and --tls-key, or of --identity, and copy them; return whether the copy changed.

    Raises InvalidInput when a file cannot be read, or does not hold a certificate and its key.
    """
    if not settings.certificate_files:
        return False
    copy = settings.certificate
    text = b"\n".join(_read(path, flag) for path, flag in _sources(settings))
    if copy.exists() and copy.read_bytes() == text:
        return False
    fresh = copy.with_suffix(".new")
    _write(fresh, text)
    try:
        _check(fresh, settings)
        fresh.replace(copy)
    finally:
        fresh.unlink(missing_ok=True)
    return True


def renew(settings: Settings) -> bool:
    """Install a certificate that the user replaced; return whether there was one.

    Raises RescoldoError when it is broken, or HAProxy refuses it: then the edge keeps its present one.
    """
    copy = settings.certificate
    before = copy.read_bytes() if copy.exists() else None
    if not install(settings):
        return False
    try:
        process.check(process.binary_for(settings), config_file(settings))
    except RescoldoError:
        if before is not None:
            _write(copy, before)
        raise
    return True


def restore(settings: Settings) -> None:
    """Copy the certificate again when the copy is lost. Errors are only logged: the edge reports that it cannot
    start."""
    if settings.certificate_files and not settings.certificate.exists():
        try:
            install(settings)
        except (RescoldoError, OSError) as error:
            log.error("%s", error)


def warning(settings: Settings) -> str:
    """The warning about a private key that every user of this machine can read; empty when not every user can."""
    if settings.tls_cert is None:
        return ""
    path, flag = _sources(settings)[-1]
    if path.stat().st_mode & stat.S_IROTH:
        return f"{flag}: every user of this machine can read the private key in {path}; run `chmod o-rwx {path}`"
    return ""


def _sources(settings: Settings) -> list[tuple[Path, str]]:
    """The files, with the flags that name them; the last one holds the key."""
    flags = ("--identity",) * 2 if settings.tls_cert is None else ("--tls-cert", "--tls-key")
    return list(zip(settings.certificate_files, flags, strict=False))


def _read(path: Path, flag: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{flag}: {path} cannot be read: {error.strerror}") from error


def _write(path: Path, text: bytes) -> None:
    """Write a file that this user alone can read: the edge reads it before it changes its user."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(text)


def _check(path: Path, settings: Settings) -> None:
    import ssl  # imported late: most platforms never need it

    def password() -> str:
        raise InvalidInput(f"{_named(settings)}: the private key is encrypted; save it without a password")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, password=password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InvalidInput(f"{_named(settings)}: the private key does not belong to the certificate") from error
        raise InvalidInput(
            f"{_named(settings)}: write certificate, chain and private key as PEM into one file, or name the file of "
            f"the key with --tls-key ({error.reason or error})"
        ) from error


def _named(settings: Settings) -> str:
    return " and ".join(f"{flag} {path}" for path, flag in _sources(settings))
