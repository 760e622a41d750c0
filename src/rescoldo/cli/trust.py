"""Decides which TLS certificates a verb accepts from its gateway."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rescoldo.cli.credentials import is_loopback
from rescoldo.supervisor.running import platform_at

if TYPE_CHECKING:
    import ssl  # loaded only for gateways that speak HTTPS


def trusted(url: str, *, verify: bool = True) -> ssl.SSLContext | None:
    """Return the TLS context that checks the certificate at `url`; None for plain HTTP.

    A platform of this machine may listen at a loopback address that its certificate does not name. The context then
    trusts that very certificate, if this user may read it. All other certificates are checked against the system's
    authorities, or, as with curl and faas-cli, against those in $SSL_CERT_FILE or $SSL_CERT_DIR.
    """
    parts = urlsplit(url)
    if parts.scheme != "https":
        return None
    import ssl

    if not verify:
        return ssl._create_unverified_context()
    context = ssl.create_default_context()
    if is_loopback(url) and (own := _own_certificate(f"{parts.hostname}:{parts.port or 443}")) is not None:
        with suppress(OSError):  # this user may not read it
            # the certificate itself identifies the platform: it need be no root, and its names need not match `url`
            context.load_verify_locations(own)
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.check_hostname = False
    return context


def _own_certificate(address: str) -> Path | None:
    """Return the certificate of the platform at HOST:PORT of this machine; None if no known platform with TLS
    listens there."""
    at = platform_at(address)
    if at is None or at.settings is None or at.settings.tls_cert is None:
        return None
    return at.settings.certificate
