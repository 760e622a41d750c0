"""A gateway that speaks TLS to its workers, with a real HAProxy; workers are stubs with certificates of control's."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rescoldo.cluster.authority import Authority
from rescoldo.cluster.identities_wanted import control_subject, pool_subject
from rescoldo.gateway import config
from rescoldo.gateway.servers import choose_ids
from support.patience import until
from support.real_edge import Message
from support.real_gateway import RealGateway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

BLUE = {"blue": "p0"}


def made(name: str = "rescoldo-authority") -> Authority:
    return Authority.make(name, time.time())


@pytest.fixture
def authority() -> Authority:
    return made()


@pytest.fixture
async def real(authority: Authority) -> AsyncIterator[RealGateway]:
    async with RealGateway(slowstart=0.2, authority=authority.pair.certificate.decode()) as found:
        await found.know(BLUE, {"blue": "a-secret-of-the-pool"})
        yield found


class Shown:
    """The certificate that a worker shows; how often it was shown, and the names that it was asked for by."""

    def __init__(self, folder: Path) -> None:
        self.handshakes: list[str] = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.sni_callback = self._note
        self._file = folder / "shown.pem"

    def _note(self, _: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        self.handshakes.append(name or "")

    def issued(self, by: Authority, namespace: str = "blue", *, control: bool = False) -> Shown:
        """Show a certificate of a pool's workers, or of control."""
        subject = control_subject("rescoldo") if control else pool_subject(namespace)
        pair = by.issue(subject, time.time())
        self._file.write_bytes(pair.certificate + pair.key)
        self.context.load_cert_chain(self._file)
        return self


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    return Shown(tmp_path)


async def test_calls_go_to_a_worker_that_shows_its_pools_certificate(
    real: RealGateway, authority: Authority, shown: Shown
) -> None:
    worker = await real.worker("w1", tls=shown.issued(authority).context)
    await real.place("w1")
    for method, body in (("GET", None), ("POST", b"x" * 100_000), ("GET", None), ("POST", b"x"), ("PUT", b"x")):
        assert (await real.call("/function/fn.blue", method=method, body=body)).text == "w1"
    assert {request.headers["x-rescoldo-pool"] for request in worker.requests} == {"a-secret-of-the-pool"}
    assert shown.handshakes == ["0.blue.pool.rescoldo", "1.blue.pool.rescoldo", "1.blue.pool.rescoldo"], (
        "GET and PUT use a connection again"
    )


async def test_a_worker_that_dies_is_left_as_one_without_tls(
    real: RealGateway, authority: Authority, shown: Shown
) -> None:
    async def die(_: Message) -> None:
        return None

    for name in ("w1", "w2"):
        await real.worker(name, tls=shown.issued(authority).context)
    await real.place("w1", "w2")
    owner = real.workers[(await real.call("/function/fn.blue")).text]
    owner.respond = die
    assert (await real.call("/function/fn.blue", method="POST", body=b"x")).status == 502
    assert (await real.call("/function/fn.blue")).text != owner.name
    owner.crash()
    assert (await real.call("/function/fn.blue", method="POST", body=b"x")).status == 200


@pytest.mark.parametrize("other", ["another authority", "another pool", "control"])
async def test_no_call_goes_to_who_shows_another_certificate(
    real: RealGateway, authority: Authority, shown: Shown, other: str
) -> None:
    by = made() if other == "another authority" else authority
    shown.issued(by, "red" if other == "another pool" else "blue", control=other == "control")
    worker = await real.worker("w1", tls=shown.context)
    await real.place("w1")
    for method in ("GET", "POST"):
        assert (await real.call("/function/fn.blue", method=method, body=b"x")).status == 503
    assert shown.handshakes and worker.requests == []


async def test_no_call_goes_in_the_clear_to_who_should_speak_tls(real: RealGateway, shown: Shown) -> None:
    worker = await real.worker("w1", tls=shown.context)
    worker.tls = None
    worker.crash()
    await worker.start()
    await real.place("w1")
    assert (await real.call("/function/fn.blue")).status == 503
    assert worker.requests == []


async def test_workers_with_and_without_tls_are_in_one_pool(
    real: RealGateway, authority: Authority, shown: Shown
) -> None:
    await real.worker("w1", tls=shown.issued(authority).context)
    await real.worker("w2")
    await real.place("w1", "w2")
    assert set((await real.owners(20)).values()) == {"w1", "w2"}


async def test_a_renewed_certificate_is_taken_without_a_lost_call(
    real: RealGateway, authority: Authority, shown: Shown
) -> None:
    await real.worker("w1", tls=shown.issued(authority).context)
    await real.place("w1")
    client = await real.connect()
    for issuer in (authority, authority.renewed(time.time() + 1000.0), authority):
        shown.issued(issuer)
        for method in ("GET", "POST"):
            assert (await client.call("/function/fn.blue", method=method, body=b"x")).status == 200


async def test_another_authority_is_trusted_by_a_restarted_haproxy(
    real: RealGateway, authority: Authority, shown: Shown
) -> None:
    other = made()
    await real.worker("w1", tls=shown.issued(other).context)
    await real.place("w1")
    assert (await real.call("/function/fn.blue")).status == 503
    config.write_authority(real.settings, other.pair.certificate.decode())
    config.write_pools(real.settings, real.server_list, choose_ids(real.server_list, ()))
    config.write_map(real.settings, config.POOLS, {**BLUE, "*": "1"})
    await real.kill()
    await real.start()
    await until(real.steady)
    assert (await real.call("/function/fn.blue")).status == 200
