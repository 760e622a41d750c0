"""A worker's edge serves gateways that speak TLS, beside those that do not; with a real HAProxy."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rescoldo.cluster.authority import Authority
from rescoldo.cluster.identities_wanted import identity_wanted
from rescoldo.edge import certificate
from rescoldo.edge.protocol import LiveServer, Route
from rescoldo.model.names import DEFAULT_NAMESPACE, function_id
from rescoldo.model.settings import Settings
from support.ports import free_ports
from support.real_edge import S1, Client, Instance, RealEdge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

SECRET = "present-secret-of-the-pool"
NAME = f"0.{DEFAULT_NAMESPACE}.pool.rescoldo"


class Worker(RealEdge):
    """A worker's edge with one awake function, `fn`, and its identity as control makes it."""

    one: Instance

    def __init__(self, identity: Path) -> None:
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        super().__init__(join="https://control:8443", identity=str(identity), gateways_tls=self.address)
        self.authority = Authority.make("rescoldo-authority", time.time())
        self.identity = identity
        self.issue()

    def issue(self, age: float = 0.0) -> None:
        """Write the identity's files, with a certificate that is `age` seconds old."""
        values = identity_wanted({}, DEFAULT_NAMESPACE, self.authority, SECRET, time.time() - age)
        for name, value in values.items():
            (self.identity / name).write_bytes(value)

    async def start(self) -> None:
        self.settings.edge.mkdir(parents=True, exist_ok=True)
        certificate.install(self.settings)
        await super().start()

    async def connect_tls(self, name: str = NAME, *, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Client:
        """Connect as a gateway does that verifies the worker's certificate for `name`."""
        context = ssl.create_default_context(cadata=self.authority.pair.certificate.decode())
        context.maximum_version = newest
        host, _, port = self.address.rpartition(":")
        client = Client(*await asyncio.open_connection(host, int(port), ssl=context, server_hostname=name))
        self._clients.append(client)
        return client

    async def serial(self) -> str:
        """The serial number of the certificate that new connections are shown."""
        shown = (await self.connect_tls()).writer.get_extra_info("peercert")
        return str(shown["serialNumber"])


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    async with Worker(tmp_path) as real:
        real.one = await real.place("s1", "one")
        await real.edge.set_route(Route(function_id("fn"), S1))
        yield real


async def call(client: Client, secret: str = SECRET, method: str = "GET") -> int:
    return (await client.call("/function/fn", method=method, headers={"X-Rescoldo-Pool": secret}, body=b"x")).status


async def test_gateways_come_with_and_without_tls_and_with_the_pools_secret(worker: Worker) -> None:
    for client in (await worker.connect_tls(), await worker.connect()):
        assert [await call(client, method=method) for method in ("GET", "POST", "GET")] == [200, 200, 200]
        assert await call(client, "another-secret-of-the-pool") == 403


async def test_the_certificate_is_for_no_other_name_and_tls_is_new(worker: Worker) -> None:
    for name in ("rescoldo-control", "rescoldo-control.rescoldo.svc", "0.blue.pool.rescoldo"):
        with pytest.raises(ssl.SSLCertVerificationError):
            await worker.connect_tls(name)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await worker.connect_tls(newest=ssl.TLSVersion.TLSv1_2)


async def test_a_renewed_certificate_is_taken_over_without_a_lost_call(worker: Worker) -> None:
    before, renewed = await worker.serial(), asyncio.Event()
    statuses: list[int] = []

    async def gateway() -> None:
        client = await worker.connect_tls()
        while not renewed.is_set():
            answer = await client.call("/function/fn", headers={"X-Rescoldo-Pool": SECRET})
            statuses.append(answer.status)
            if answer.headers.get("connection") == "close":
                client = await worker.connect_tls()

    calls = asyncio.create_task(gateway())
    assert not certificate.renew(worker.settings)
    worker.issue(age=60.0)
    assert certificate.renew(worker.settings)
    await worker.reload([LiveServer(S1, worker.one.name, worker.one.address, 100)], routes="fn.openfaas-fn s1\n* 1\n")
    assert await worker.serial() != before
    told = len(statuses)
    await worker.until(lambda: len(statuses) > told + 10)
    renewed.set()
    await calls
    assert set(statuses) == {200}


def test_a_worker_without_the_address_has_no_certificate(tmp_path: Path) -> None:
    alone = Settings(str(tmp_path), str(tmp_path), join="https://control:8443", identity=str(tmp_path))
    assert alone.certificate_files == ()
    assert not certificate.install(alone)
