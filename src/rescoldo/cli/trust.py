"""Whom a verb takes for its gateway, where that speaks HTTPS."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rescoldo.cli.credentials import is_loopback
from rescoldo.model.running import platform_at

if TYPE_CHECKING:
    import ssl  # loaded only for gateways that speak it


def trusted(url: str, *, verify: bool = True) -> ssl.SSLContext | None:
    """How the certificate at `url` is checked; None for plain HTTP.

    A platform of this machine, at an address that its certificate does not name, is known by the certificate itself,
    where this user may read it. All others are checked as everywhere: by those that the system trusts, or, as with curl
    and faas-cli, those in $SSL_CERT_FILE or $SSL_CERT_DIR.
    """
    parts = urlsplit(url)
    if parts.scheme != "https":
        return None
    import ssl

    if not verify:
        return ssl._create_unverified_context()
    context = ssl.create_default_context()
    if is_loopback(url) and (own := _own_certificate(f"{parts.hostname}:{parts.port or 443}")) is not None:
        with suppress(OSError):  # not ours to read
            context.load_verify_locations(own)
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.check_hostname = False
    return context


def _own_certificate(address: str) -> Path | None:
    """That of the platform at HOST:PORT of this machine; None where there is none, or it is somebody else's."""
    at = platform_at(address)
    if at is None or at.settings is None or at.settings.tls_cert is None:
        return None
    return at.settings.certificate
