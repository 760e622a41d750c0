"""What the authority of a cluster's parts issues, and what it takes for good."""

from __future__ import annotations

import ssl
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rescoldo.cluster.authority import Authority, Pair, Subject
from rescoldo.model.errors import InvalidInput

NOW = 1_800_000_000.0
DAY = 86_400.0
CONTROL = Subject("rescoldo-control", hosts=("rescoldo-control", "rescoldo-control.system.svc"))
BLUE = Subject("blue", hosts=("*.blue.pool.rescoldo",), uris=("rescoldo://pool/blue",))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make("rescoldo", NOW)


def test_what_it_issues_fits_until_a_third_of_its_time_is_left(authority: Authority) -> None:
    pair = authority.issue(BLUE, NOW)
    assert authority.fits(pair, BLUE, NOW)
    assert authority.fits(pair, BLUE, NOW + 59 * DAY)
    assert not authority.fits(pair, BLUE, NOW + 61 * DAY)
    assert not authority.fits(pair, BLUE, NOW - 2 * 3600), "a clock that went back"


def test_what_it_issued_before_it_was_renewed_fits_and_the_reverse(authority: Authority) -> None:
    renewed = authority.renewed(NOW + DAY)
    assert renewed.pair.certificate != authority.pair.certificate
    assert renewed.pair.key == authority.pair.key
    assert renewed.fits(authority.issue(BLUE, NOW + DAY), BLUE, NOW + DAY)
    assert authority.fits(renewed.issue(BLUE, NOW + DAY), BLUE, NOW + DAY)


def test_it_is_due_when_a_third_of_ten_years_is_left(authority: Authority) -> None:
    assert not authority.is_due(NOW + 2400 * DAY)
    assert authority.is_due(NOW + 2450 * DAY)


@pytest.mark.parametrize("other", [replace(BLUE, uris=("rescoldo://pool/red",)), replace(BLUE, hosts=("a",)), CONTROL])
def test_a_certificate_for_somebody_else_does_not_fit(authority: Authority, other: Subject) -> None:
    assert not authority.fits(authority.issue(other, NOW), BLUE, NOW)


def test_what_others_have_made_does_not_fit(authority: Authority) -> None:
    other, mine = Authority.make("rescoldo", NOW).issue(BLUE, NOW), authority.issue(BLUE, NOW)
    assert not authority.fits(other, BLUE, NOW)
    assert not authority.fits(Pair(mine.certificate, other.key), BLUE, NOW)
    assert not authority.fits(Pair(b"", b""), BLUE, NOW)
    assert not authority.fits(Pair(mine.certificate, mine.key[:50]), BLUE, NOW)


def test_one_that_was_stored_issues_as_before(authority: Authority) -> None:
    again = Authority(authority.pair)
    assert authority.fits(again.issue(BLUE, NOW), BLUE, NOW)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda pair: replace(pair, certificate=b"-----BEGIN CERTIFICATE-----\nnone"), "no authority's certificate"),
        (lambda pair: replace(pair, key=b"secret stuff"), "no authority's certificate and key"),
        (lambda pair: replace(pair, key=Authority.make("b", NOW).pair.key), "the key is another one"),
        (lambda pair: Authority(pair).issue(BLUE, NOW), "none of an authority"),
    ],
)
def test_what_is_no_authority_is_refused(authority: Authority, change: object, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        Authority(change(authority.pair))  # type: ignore[operator]
    assert "secret stuff" not in str(caught.value)


def test_nothing_outlives_the_authority_and_one_that_has_ended_says_so(authority: Authority) -> None:
    near = NOW + 3640 * DAY
    assert not authority.fits(authority.issue(BLUE, near), BLUE, NOW + 3650 * DAY)
    with pytest.raises(InvalidInput, match=r"ended at 2037-01-12 08:00 UTC"):
        authority.issue(BLUE, NOW + 3651 * DAY)


def test_no_key_is_in_a_repr(authority: Authority) -> None:
    assert "PRIVATE" not in repr(authority.pair) + repr(authority)


# -- as TLS has it: real clocks, so that what is issued is valid now


class Side:
    """One side of a connection in memory."""

    def __init__(self, context: ssl.SSLContext, **about: object) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, **about)  # type: ignore[arg-type]
        self.done = False

    def step(self) -> None:
        try:
            self.tls.do_handshake()
            self.done = True
        except ssl.SSLWantReadError:
            pass


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> ssl.SSLObject:
    """Connect, and return the server's side."""
    here, there = Side(server, server_side=True), Side(client, server_hostname=host)
    for _ in range(6):
        there.step()
        here.incoming.write(there.outgoing.read())
        here.step()
        there.incoming.write(here.outgoing.read())
    assert here.done and there.done
    return here.tls


def context(side: int, pair: Pair, trusted: Authority, folder: Path) -> ssl.SSLContext:
    path = folder / "pair.pem"
    path.write_bytes(pair.certificate + pair.key)
    made = ssl.SSLContext(side)
    made.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    made.load_cert_chain(path)
    made.load_verify_locations(cadata=trusted.pair.certificate.decode())
    made.verify_mode = ssl.CERT_REQUIRED
    return made


@pytest.fixture(scope="module")
def valid() -> Authority:
    return Authority.make("rescoldo", time.time())


def test_a_worker_and_control_know_each_other(valid: Authority, tmp_path: Path) -> None:
    now = time.time()
    renewed = valid.renewed(now)
    server = context(ssl.PROTOCOL_TLS_SERVER, renewed.issue(CONTROL, now), valid, tmp_path)
    client = context(ssl.PROTOCOL_TLS_CLIENT, valid.issue(BLUE, now), renewed, tmp_path)
    peer = handshake(server, client, "rescoldo-control.system.svc").getpeercert()
    assert peer is not None
    assert peer["subjectAltName"] == (("DNS", "*.blue.pool.rescoldo"), ("URI", "rescoldo://pool/blue"))


def test_a_worker_cannot_pass_itself_off_as_control(valid: Authority, tmp_path: Path) -> None:
    now = time.time()
    forged = replace(BLUE, uris=(*BLUE.uris, "rescoldo://pool/control"))
    server = context(ssl.PROTOCOL_TLS_SERVER, valid.issue(forged, now), valid, tmp_path)
    client = context(ssl.PROTOCOL_TLS_CLIENT, valid.issue(BLUE, now), valid, tmp_path)
    for host in CONTROL.hosts:
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            handshake(server, client, host)


def test_a_worker_is_a_server_by_a_name_of_its_pool_alone_and_control_is_no_client(
    valid: Authority, tmp_path: Path
) -> None:
    now = time.time()
    worker = context(ssl.PROTOCOL_TLS_SERVER, valid.issue(BLUE, now), valid, tmp_path)
    client = context(ssl.PROTOCOL_TLS_CLIENT, valid.issue(BLUE, now), valid, tmp_path)
    assert handshake(worker, client, "0.blue.pool.rescoldo").getpeercert()
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(worker, client, "0.red.pool.rescoldo")
    control = context(ssl.PROTOCOL_TLS_CLIENT, valid.issue(CONTROL, now), valid, tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"purpose|unsuitable"):
        handshake(worker, control, "0.blue.pool.rescoldo")


def test_a_client_of_another_authority_is_refused(valid: Authority, tmp_path: Path) -> None:
    now = time.time()
    server = context(ssl.PROTOCOL_TLS_SERVER, valid.issue(CONTROL, now), valid, tmp_path)
    stranger = Authority.make("rescoldo", now).issue(BLUE, now)
    client = context(ssl.PROTOCOL_TLS_CLIENT, stranger, valid, tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client, "rescoldo-control")
