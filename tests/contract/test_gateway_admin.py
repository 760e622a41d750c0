"""What a gateway's agent needs of HAProxy's Runtime API, of the real one and of the fake of unit tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from rescoldo.gateway import config
from rescoldo.gateway.config import GatewaySettings
from rescoldo.gateway.proxy import Proxy
from rescoldo.gateway.servers import Place, PoolName, Server, ServerKey, State, choose_id, choose_ids
from rescoldo.model.errors import EdgeUnavailable
from support.fake_haproxy import FakeHaproxy
from support.patience import until
from support.real_gateway import RealGateway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

# nobody listens there: a server that is DOWN, and has no sessions
ONE = Server(ServerKey(PoolName("p0"), "one"), Place("127.3.0.1", 9, 10))
TWO = Server(ServerKey(PoolName("p1"), "two.three"), Place("127.3.0.2", 9, 10))


class Gateway:
    """A gateway of either sort."""

    def __init__(self, settings: GatewaySettings, proxy: Proxy, real: RealGateway | None, fake: FakeHaproxy | None):
        self.settings, self.proxy, self._real, self._fake = settings, proxy, real, fake

    async def kill(self) -> None:
        if self._real:
            await self._real.kill()
        if self._fake:
            self._fake.kill()

    async def start(self) -> None:
        if self._real:
            await self._real.start()
        if self._fake:
            self._fake.start()

    async def states(self) -> dict[str, State]:
        return {str(server.key): server.state for server in await self.proxy.servers()}


@pytest.fixture(params=["fake", "real"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    if request.param == "real":
        async with RealGateway() as real:
            yield Gateway(real.settings, real.proxy, real, None)
    else:
        settings = GatewaySettings(tmp_path / "g", "127.0.0.1:9", pools=4)
        config.write(settings)
        fake = FakeHaproxy(settings)
        yield Gateway(settings, Proxy(settings, fake), None, fake)


async def test_servers_are_added_drained_resumed_and_removed(gateway: Gateway) -> None:
    proxy = gateway.proxy
    assert await proxy.servers() == []
    assert await proxy.set_servers([ONE, TWO]) is False
    assert {(server.key, server.id, server.place, server.state) for server in await proxy.servers()} == {
        (server.key, choose_id(server.key.pod, ()), server.place, State.READY) for server in (ONE, TWO)
    }
    assert await proxy.set_servers([replace(ONE, draining=True), TWO]) is False
    assert await gateway.states() == {"p0/one": State.DRAINING, "p1/two.three": State.READY}
    await proxy.set_servers([ONE, TWO])
    assert await gateway.states() == {"p0/one": State.READY, "p1/two.three": State.READY}
    assert await proxy.set_servers([TWO]) is False
    assert await gateway.states() == {"p1/two.three": State.READY}


async def test_a_server_at_another_place_replaces_the_one_of_its_name(gateway: Gateway) -> None:
    await gateway.proxy.set_servers([ONE])
    moved = replace(ONE, place=Place("127.3.0.3", 9, 10))
    await until(lambda: settled(gateway, moved))
    assert [server.place for server in await gateway.proxy.servers()] == [moved.place]


async def settled(gateway: Gateway, server: Server) -> bool:
    await gateway.proxy.set_servers([server])
    return [present.place for present in await gateway.proxy.servers()] == [server.place]


async def test_maps_are_replaced_as_a_whole(gateway: Gateway) -> None:
    for name in config.MAPS:
        values = {f"key-{number}": f"p{number}" for number in range(3)}
        await gateway.proxy.set_map(name, values)
        assert await gateway.proxy.map(name) == values
        await gateway.proxy.set_map(name, {"key-1": "other"})
        assert await gateway.proxy.map(name) == {"key-1": "other"}
        await gateway.proxy.set_map(name, {})
        assert await gateway.proxy.map(name) == {}


async def test_it_begins_with_the_files(gateway: Gateway) -> None:
    config.write_pools(gateway.settings, [ONE, replace(TWO, draining=True)], choose_ids([ONE, TWO], ()))
    config.write_map(gateway.settings, config.POOLS, {"blue": "p0"})
    await gateway.kill()
    with pytest.raises(EdgeUnavailable):
        await gateway.proxy.servers()
    await gateway.start()
    (server,) = await gateway.proxy.servers()
    assert (server.key, server.id, server.place, server.state) == (
        ONE.key, choose_id("one", ()), ONE.place, State.READY,
    )  # fmt: skip
    assert await gateway.proxy.map(config.POOLS) == {"blue": "p0"}
