"""The authority of a cluster's parts: it issues the certificates by which workers and control know each other.

The one module that imports `cryptography` (0.1 s): only control imports it.

* The authority is valid for 10 years, what it issues for 90 days; each is renewed when a third of its time is left, so
  with 30 days left for whoever does not take it over at once. A renewed authority keeps its key and its name: what was
  issued before fits the renewed one, and what is issued from now on fits the one before.
* A worker's certificate has the URI of its namespace, which is what it is towards control, and names below
  `NAMESPACE.pool.rescoldo`, by which gateways know it. It has none of control's names: no worker can pass itself off as
  control.
* Validity begins an hour before the certificate is made, for clocks that are behind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rescoldo.model.errors import InvalidInput

AUTHORITY_DAYS = 3650
ISSUED_DAYS = 90
BACKDATED = timedelta(hours=1)
_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey  # the latter of an authority that others have made
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm)  # what cryptography raises for other bytes


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key (PEM)."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a certificate is for: a server with names of hosts, a client with URIs, or both."""

    name: str
    hosts: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()


class Authority:
    """Issues certificates. `now` is in Unix seconds everywhere."""

    def __init__(self, pair: Pair) -> None:
        """Raises InvalidInput unless `pair` is an authority's certificate with its key."""
        self.pair = pair
        try:
            self._certificate = x509.load_pem_x509_certificate(pair.certificate)
            self._key = _signing(pair.key)
            basic = self._certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        except (*_UNREADABLE, x509.ExtensionNotFound) as error:
            raise InvalidInput(f"no authority's certificate and key: {type(error).__name__}") from error
        if not basic.ca:
            raise InvalidInput("the certificate is none of an authority")
        if self._certificate.public_key() != self._key.public_key():
            raise InvalidInput("the key is another one than the certificate's")

    @classmethod
    def make(cls, name: str, now: float) -> Authority:
        """Make an authority with a new key."""
        return cls._signed(_named(name), ec.generate_private_key(ec.SECP256R1()), now)

    def renewed(self, now: float) -> Authority:
        """The same authority, valid from now on: with its name and its key."""
        return self._signed(self._certificate.subject, self._key, now)

    def is_due(self, now: float) -> bool:
        """Whether it is to be renewed."""
        return _is_due(self._certificate, now)

    def check(self, now: float) -> None:
        """Raise InvalidInput if it cannot issue anything any more."""
        if _time(now) >= self._certificate.not_valid_after_utc:
            raise InvalidInput(f"its certificate ended at {self._certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")

    def issue(self, subject: Subject, now: float) -> Pair:
        """Issue a certificate with a new key. Raises InvalidInput, see `check`."""
        self.check(now)
        key = ec.generate_private_key(ec.SECP256R1())
        end = min(_time(now) + timedelta(days=ISSUED_DAYS), self._certificate.not_valid_after_utc)
        usages = [
            *([ExtendedKeyUsageOID.SERVER_AUTH] if subject.hosts else []),
            *([ExtendedKeyUsageOID.CLIENT_AUTH] if subject.uris else []),
        ]
        names = [*map(x509.DNSName, subject.hosts), *map(x509.UniformResourceIdentifier, subject.uris)]
        builder = _builder(_named(subject.name), self._certificate.subject, key, now, end)
        for extension, critical in (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(signs_certificates=False), True),
            (x509.ExtendedKeyUsage(usages), False),
            (x509.SubjectAlternativeName(names), False),
            (self._key_id(), False),
        ):
            builder = builder.add_extension(extension, critical)
        return _pair(builder.sign(self._key, hashes.SHA256()), key)

    def fits(self, pair: Pair, subject: Subject, now: float) -> bool:
        """Whether a pair may stay: it is this authority's, for `subject`, valid, and not to be renewed yet."""
        try:
            certificate = x509.load_pem_x509_certificate(pair.certificate)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            certificate.verify_directly_issued_by(self._certificate)
            same = certificate.public_key() == _signing(pair.key).public_key()
        except (*_UNREADABLE, x509.ExtensionNotFound, InvalidSignature):
            return False
        hosts = tuple(names.get_values_for_type(x509.DNSName))
        uris = tuple(names.get_values_for_type(x509.UniformResourceIdentifier))
        began = certificate.not_valid_before_utc <= _time(now)
        return same and began and (hosts, uris) == (subject.hosts, subject.uris) and not _is_due(certificate, now)

    def _key_id(self) -> x509.AuthorityKeyIdentifier:
        """How what it issues names its key. An authority that others have made may have no name for it."""
        try:
            known = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known)
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())

    @classmethod
    def _signed(cls, name: x509.Name, key: _Key, now: float) -> Authority:
        """An authority that has signed itself."""
        end = _time(now) + timedelta(days=AUTHORITY_DAYS)
        builder = _builder(name, name, key, now, end)
        for extension, critical in (
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (_usage(signs_certificates=True), True),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        ):
            builder = builder.add_extension(extension, critical)
        return cls(_pair(builder.sign(key, hashes.SHA256()), key))


def _is_due(certificate: x509.Certificate, now: float) -> bool:
    """90 days from 1 January: the certificate ends on 1 April, and is due from 2 March on."""
    began, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return end - _time(now) <= (end - began) / 3


def _time(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])  # X.520 allows 64 characters


def _signing(key: bytes) -> _Key:
    """The key of a PEM file. Raises TypeError for one of another kind."""
    found = serialization.load_pem_private_key(key, None)
    if not isinstance(found, _Key):
        raise TypeError("the key is neither of an elliptic curve nor of RSA")
    return found


def _builder(subject: x509.Name, issuer: x509.Name, key: _Key, now: float, end: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(now) - BACKDATED)
        .not_valid_after(end)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(certificate: x509.Certificate, key: _Key) -> Pair:
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Pair(certificate.public_bytes(pem), private)
