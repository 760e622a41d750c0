"""HAProxy hears of control's address, however late a name has one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rescoldo.gateway import config
from rescoldo.gateway.config import GatewaySettings
from rescoldo.gateway.control_address import LOOK_SECONDS, ControlAddress
from rescoldo.gateway.proxy import Proxy
from support.fake_haproxy import FakeHaproxy

pytestmark = pytest.mark.looptime


class Names:
    """A DNS."""

    def __init__(self) -> None:
        self.address: str | None = None

    async def resolve(self, host: str, port: int) -> str:
        await asyncio.sleep(0.01)
        if self.address is None:
            raise OSError("Temporary failure in name resolution")
        assert (host, port) == ("control.system.svc", 8080)
        return self.address


@pytest.fixture
def haproxy(tmp_path: Path) -> FakeHaproxy:
    settings = GatewaySettings(tmp_path / "g", "control.system.svc:8080", pools=1)
    config.write(settings)
    return FakeHaproxy(settings)


def told(haproxy: FakeHaproxy) -> list[str]:
    return [command.split()[4] for command in haproxy.commands if command.startswith("set server control/api addr")]


async def test_a_name_is_resolved_again_and_again(haproxy: FakeHaproxy, tmp_path: Path) -> None:
    names = Names()
    control = ControlAddress("control.system.svc:8080", Proxy(haproxy.settings, haproxy), names.resolve)
    running = asyncio.create_task(control.run())
    await asyncio.sleep(5)
    assert told(haproxy) == []
    names.address = "10.0.0.1"
    await asyncio.sleep(2)
    assert set(told(haproxy)) == {"10.0.0.1"}
    names.address = "10.0.0.2"
    await asyncio.sleep(LOOK_SECONDS + 1)
    assert told(haproxy)[-1] == "10.0.0.2"
    haproxy.commands.clear()
    control.note_start()  # a new HAProxy need not wait
    await asyncio.sleep(0.1)
    assert told(haproxy) == ["10.0.0.2"]
    running.cancel()


async def test_while_haproxy_is_away_it_is_tried_again(haproxy: FakeHaproxy) -> None:
    names = Names()
    names.address = "10.0.0.1"
    haproxy.kill()
    running = asyncio.create_task(
        ControlAddress("control.system.svc:8080", Proxy(haproxy.settings, haproxy), names.resolve).run()
    )
    await asyncio.sleep(3)
    haproxy.start()
    await asyncio.sleep(2)
    assert set(told(haproxy)) == {"10.0.0.1"}
    running.cancel()


@pytest.mark.parametrize("address", ["10.1.2.3:8080", "[fd00::1]:8080"])
async def test_an_address_is_no_name(haproxy: FakeHaproxy, address: str) -> None:
    await ControlAddress(address, Proxy(haproxy.settings, haproxy)).run()
    assert told(haproxy) == []
