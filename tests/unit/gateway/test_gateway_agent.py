"""The agent, with a fake API server and a fake HAProxy, in virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rescoldo.gateway import config
from rescoldo.gateway.agent import (
    CHECK_SECONDS,
    LONGEST_RAMP,
    LOOK_SECONDS,
    RAMP_SECONDS,
    Agent,
)
from rescoldo.gateway.config import GatewaySettings
from rescoldo.gateway.pods import PATIENCE, PODS, TLS_PORT, WORKERS, read_pod
from rescoldo.gateway.proxy import Proxy
from rescoldo.gateway.secrets import Secrets
from rescoldo.gateway.servers import Place
from rescoldo.kube.errors import Asked, Forbidden
from rescoldo.kube.fake import FakeCluster
from rescoldo.kube.protocol import Object
from support.fake_haproxy import DRAIN, FakeHaproxy

pytestmark = pytest.mark.looptime

RAMP = CHECK_SECONDS + 2 * RAMP_SECONDS  # of a fake, which has its full weight at once
LABELS = dict(part.split("=") for part in WORKERS.split(","))


def pod(
    name: str, namespace: str = "blue", ip: str = "10.0.0.1", labels: dict[str, str] = LABELS, **status: Any
) -> Object:
    status = {"phase": "Running", "podIP": ip, **status} if ip else {"phase": "Pending"}
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels}, "status": status}


class Refusing(FakeCluster):
    """A fake that refuses what is asked of some namespaces; "": of all at once."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[str] = set()

    async def _ask(self, asked: Asked) -> None:
        await super()._ask(asked)
        if asked.verb in ("list", "watch") and asked.namespace in self.refused:
            raise Forbidden(f"not allowed to {asked}")


class World:
    """A cluster, a gateway of it, and what its agent does."""

    def __init__(self, folder: Path, pools: int = 4) -> None:
        self.settings = GatewaySettings(folder / "g", "127.0.0.1:9", pools=pools)
        config.write(self.settings)
        self.cluster = Refusing()
        self.haproxy = FakeHaproxy(self.settings)
        self.secrets = Secrets()

    @asynccontextmanager
    async def agent(self, *namespaces: str, ramped: bool = True) -> AsyncIterator[Agent]:
        """Run an agent; the first one's servers ramp up first."""
        agent = Agent(
            self.settings,
            self.cluster,
            Proxy(self.settings, self.haproxy),
            secrets=lambda: self.secrets,
            namespaces=namespaces,
        )
        running = asyncio.create_task(agent.run())
        try:
            await self.settle()
            if ramped:
                await self.settle(RAMP)
            yield agent
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def settle(self, seconds: float = 0.01) -> None:
        """Let what is to happen within milliseconds happen."""
        await asyncio.sleep(seconds)

    async def create(self, name: str, namespace: str = "blue", **values: Any) -> None:
        await self.cluster.create(PODS, pod(name, namespace, **values))

    async def begin_deleting(self, name: str, namespace: str = "blue") -> None:
        """As the API server does while the containers end."""
        await self.cluster.patch(PODS, name, {"metadata": {"finalizers": ["kubelet/test"]}}, namespace)
        await self.cluster.delete(PODS, name, namespace)

    async def delete(self, name: str, namespace: str = "blue") -> None:
        await self.cluster.patch(PODS, name, {"metadata": {"finalizers": []}}, namespace)

    def pools(self) -> dict[str, str]:
        return self.haproxy.table(config.POOLS)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_pods_become_servers_of_their_namespaces_pool(world: World) -> None:
    await world.create("b1")
    await world.create("b2", ip="10.0.0.2")
    await world.create("r1", "red", ip="10.0.0.3")
    await world.create("other", labels={"app": "web"})
    async with world.agent():
        assert world.haproxy.ready() == {"p0/b1", "p0/b2", "p1/r1"}
        assert world.pools() == {"blue": "p0", "red": "p1", "*": "1"}
        server = world.haproxy.servers["p0/b2"]
        assert (server.ip, server.port, server.check_port) == ("10.0.0.2", "8080", "8082")


async def test_a_pod_is_added_when_it_has_an_address_and_drained_when_its_deletion_begins(world: World) -> None:
    async with world.agent():
        await world.create("b1", ip="")
        await world.settle()
        assert world.haproxy.servers == {}
        await world.cluster.patch(PODS, "b1", {"status": {"podIP": "10.0.0.1"}}, "blue")
        await world.settle()
        assert world.haproxy.ready() == {"p0/b1"}
        world.haproxy.servers["p0/b1"].sessions = 2
        await world.begin_deleting("b1")
        await world.settle()
        assert world.haproxy.servers["p0/b1"].flags == DRAIN
        await world.delete("b1")
        await world.settle(2.0)
        assert world.haproxy.servers["p0/b1"].flags == DRAIN, "it has sessions: maintenance would cut them"
        world.haproxy.servers["p0/b1"].sessions = 0
        await world.settle(1.0)
        assert world.haproxy.servers == {}


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
async def test_a_pod_that_has_ended_is_no_server(world: World, phase: str) -> None:
    await world.create("b1", phase=phase)
    async with world.agent():
        assert world.haproxy.servers == {}
        assert world.pools() == {"*": "1"}


async def test_a_namespace_keeps_its_pool_while_it_has_no_worker_and_when_the_agent_restarts(world: World) -> None:
    await world.create("b1")
    await world.create("r1", "red")
    async with world.agent():
        before = world.pools()
        await world.cluster.delete(PODS, "b1", "blue")
        await world.settle(1.0)
        assert (world.pools(), world.haproxy.ready()) == (before, {"p1/r1"})
    world.haproxy.commands.clear()
    async with world.agent():
        assert world.pools() == before
        assert world.haproxy.commands == []
        await world.create("a1", "amber")
        await world.settle()
        assert world.pools() == {**before, "amber": "p2"}


async def test_a_pool_goes_to_another_namespace_only_when_it_has_no_servers_left(tmp_path: Path) -> None:
    world = World(tmp_path, pools=1)
    await world.create("b1")
    async with world.agent():
        world.haproxy.servers["p0/b1"].sessions = 1
        await world.cluster.delete(PODS, "b1", "blue")
        await world.create("r1", "red")
        await world.settle(1.0)
        assert world.pools() == {"blue": "p0", "*": "1"}
        world.haproxy.servers["p0/b1"].sessions = 0
        await world.settle(1.0 + LOOK_SECONDS)
        assert (world.pools(), world.haproxy.ready()) == ({"red": "p0", "*": "1"}, {"p0/r1"})


async def test_a_namespace_without_a_pool_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = World(tmp_path, pools=1)
    await world.create("b1")
    await world.create("r1", "red")
    async with world.agent():
        await world.settle(3 * LOOK_SECONDS)
    assert [record.getMessage().split(";")[0] for record in caplog.records if record.levelno == logging.ERROR] == [
        "namespace red gets no calls: all 1 pools are lent"
    ]


async def test_a_restarted_haproxy_has_the_workers_before_the_agent_tells_it(world: World) -> None:
    world.secrets = Secrets({"blue": "a-secret-of-blue"}, frozenset({"a-secret-of-control"}))
    await world.create("b1")
    async with world.agent():
        pass
    world.haproxy.kill()
    world.haproxy.start()
    assert world.haproxy.ready() == {"p0/b1"}
    assert world.pools() == {"blue": "p0", "*": "1"}
    assert world.haproxy.table(config.SECRETS) == {"blue": "a-secret-of-blue"}
    assert world.haproxy.table(config.CONTROL) == {"a-secret-of-control": "1"}


async def test_a_haproxy_that_restarts_without_its_files_is_filled_at_once(world: World) -> None:
    await world.create("b1")
    async with world.agent():
        world.haproxy.kill()
        for file in (world.settings.pools_file, *map(world.settings.map_file, config.MAPS)):
            file.write_text("")
        world.haproxy.start()
        assert world.haproxy.ready() == set()
        await world.settle(0.05)
        assert (world.haproxy.ready(), world.pools()) == ({"p0/b1"}, {"blue": "p0"})
        await world.settle(RAMP)
        assert world.pools() == {"blue": "p0", "*": "1"}


async def test_what_changes_while_haproxy_is_away_is_in_the_files(world: World) -> None:
    await world.create("b1")
    async with world.agent():
        world.haproxy.kill()
        await world.create("b2", ip="10.0.0.2")
        await world.settle(30.0)
        world.haproxy.start()
        assert world.haproxy.ready() == {"p0/b1", "p0/b2"}


async def test_while_the_api_server_is_away_nothing_changes(world: World) -> None:
    await world.create("b1")
    async with world.agent():
        world.cluster.go_away()
        world.haproxy.commands.clear()
        await world.settle(300.0)
        assert (world.haproxy.ready(), world.haproxy.commands) == ({"p0/b1"}, [])
        world.haproxy.kill()
        await world.settle()
        world.haproxy.start()
        await world.settle(0.05)
        assert world.haproxy.ready() == {"p0/b1"}
        world.cluster.come_back()
        await world.create("b2", ip="10.0.0.2")
        await world.settle(30.0)
        assert world.haproxy.ready() == {"p0/b1", "p0/b2"}


async def test_an_agent_that_has_not_heard_of_the_pods_leaves_haproxy_alone(world: World) -> None:
    await world.create("b1")
    async with world.agent():
        pass
    world.cluster.go_away()
    world.haproxy.commands.clear()
    async with world.agent():
        await world.settle(60.0)
        assert (world.haproxy.ready(), world.haproxy.commands) == ({"p0/b1"}, [])


async def test_a_new_gateway_takes_part_once_its_servers_have_ramped_up(world: World) -> None:
    await world.create("b1")
    async with world.agent(ramped=False):
        server = world.haproxy.servers["p0/b1"]
        assert (world.haproxy.ready(), server.down) == ({"p0/b1"}, True)
        await world.settle(CHECK_SECONDS / 2)
        server.down, server.ramping = False, True
        await world.settle(5.0)
        assert world.pools() == {"blue": "p0"}
        server.ramping = False
        await world.settle(RAMP_SECONDS)
        assert world.pools() == {"blue": "p0", "*": "1"}


async def test_a_worker_that_never_answers_does_not_keep_a_gateway_away(world: World) -> None:
    await world.create("b1")
    async with world.agent(ramped=False):
        await world.settle(CHECK_SECONDS + 2 * RAMP_SECONDS)
        assert (world.haproxy.servers["p0/b1"].down, world.pools()) == (True, {"blue": "p0", "*": "1"})


async def test_a_worker_that_ramps_up_again_and_again_does_not_keep_a_gateway_away(world: World) -> None:
    await world.create("b1")
    async with world.agent(ramped=False):
        world.haproxy.servers["p0/b1"].ramping, world.haproxy.servers["p0/b1"].down = True, False
        await world.settle(4.0 + LONGEST_RAMP + 2 * RAMP_SECONDS)
        assert world.pools() == {"blue": "p0", "*": "1"}


async def test_a_gateway_without_any_worker_takes_part_at_once(world: World) -> None:
    async with world.agent(ramped=False):
        assert world.pools() == {"*": "1"}


async def test_workers_that_speak_tls_get_it_where_the_gateway_has_the_authority(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    speaks = {"spec": {"containers": [{"ports": [{"name": TLS_PORT, "containerPort": 8443}]}]}}
    await world.cluster.create(PODS, {**pod("w1"), **speaks})
    async with world.agent():
        assert ":8080 " in world.settings.pools_file.read_text()
    config.write(world.settings, "one")
    world.haproxy.kill()
    world.haproxy.start()
    world.secrets = Secrets(authority="one")
    async with world.agent():
        text = world.settings.pools_file.read_text()
        assert ":8443 " in text and f" ca-file {world.settings.authority_file} " in text
        assert not caplog.records
        world.secrets = Secrets(authority="another")
        await world.settle(2 * LOOK_SECONDS)
        assert config.read_authority(world.settings) == "another"
        assert caplog.text.count("rollout restart deployment rescoldo-gateway") == 1


async def test_changed_secrets_are_told(world: World) -> None:
    async with world.agent():
        world.secrets = Secrets({"blue": "another-secret-of-blue"}, frozenset({"one-of-control", "two-of-control"}))
        await world.settle(LOOK_SECONDS + 1)
        assert world.haproxy.table(config.SECRETS) == {"blue": "another-secret-of-blue"}
        assert world.haproxy.table(config.CONTROL) == {"one-of-control": "1", "two-of-control": "1"}


async def test_a_refusal_is_logged_once_and_tried_again(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.create("b1")
    world.haproxy.kill()
    async with world.agent():
        await world.settle(30.0)
        assert sum("does not have the present workers" in record.getMessage() for record in caplog.records) == 1
        world.haproxy.start()
        await world.settle(0.1)
        assert world.haproxy.ready() == {"p0/b1"}


async def test_a_server_that_haproxy_refuses_keeps_no_other_away(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.haproxy.refused = {"p0/b1"}
    await world.create("b1")
    await world.create("b2", ip="10.0.0.2")
    async with world.agent():
        assert world.haproxy.ready() == {"p0/b2"}
        assert world.pools() == {"blue": "p0", "*": "1"}
        assert "the gateway's HAProxy refused 'add server p0/b1 10.0.0.1:8080 id" in caplog.text
        world.haproxy.refused = set()
        await world.settle(LOOK_SECONDS + 1)
        assert world.haproxy.ready() == {"p0/b1", "p0/b2"}


async def test_only_the_namespaces_that_are_named_are_followed_each_with_a_right_of_its_own(world: World) -> None:
    world.cluster.refused = {""}
    for namespace in ("blue", "red", "stranger"):
        await world.create("w1", namespace)
    async with world.agent("blue", "red"):
        assert world.haproxy.ready() == {"p0/w1", "p1/w1"}
        assert world.pools() == {"blue": "p0", "red": "p1", "*": "1"}
        await world.create("w2", "red", ip="10.0.0.2")
        await world.cluster.delete(PODS, "w1", "blue")
        await world.settle(1.0)
        assert world.haproxy.ready() == {"p1/w1", "p1/w2"}


async def test_a_namespace_that_is_named_has_a_pool_before_its_first_worker(world: World) -> None:
    """Its calls get 503 with Retry-After, and not 404."""
    async with world.agent("blue", ramped=False):
        assert world.pools() == {"blue": "p0", "*": "1"}


async def test_a_gateway_waits_for_each_namespace_for_a_while(world: World) -> None:
    world.cluster.refused = {"", "red"}
    await world.create("b1")
    await world.create("r1", "red", ip="10.0.0.2")
    async with world.agent("blue", "red"):
        await world.settle(5.0)
        assert (world.haproxy.ready(), world.pools()) == (set(), {})
        world.cluster.refused = {""}
        await world.settle(PATIENCE - 10.0)
        assert world.haproxy.ready() == {"p0/b1", "p1/r1"}


async def test_a_namespace_without_a_right_keeps_no_other_from_its_workers(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.cluster.refused = {"", "red"}
    await world.create("b1")
    async with world.agent("blue", "red"):
        await world.settle(PATIENCE + LOOK_SECONDS + RAMP)
        assert (world.haproxy.ready(), world.pools()) == ({"p0/b1"}, {"blue": "p0", "red": "p1", "*": "1"})
        assert caplog.text.count("not allowed to list pods in namespace red") == 1


async def test_the_servers_of_a_namespace_that_is_not_told_stay_as_an_earlier_agent_has_left_them(
    world: World,
) -> None:
    world.cluster.refused = {""}
    await world.create("b1")
    await world.create("r1", "red", ip="10.0.0.2")
    async with world.agent("blue", "red"):
        pass
    world.cluster.refused = {"", "red"}
    async with world.agent("blue", "red"):
        await world.settle(PATIENCE + LOOK_SECONDS)
        await world.create("b2", ip="10.0.0.3")
        await world.settle(1.0)
        assert world.haproxy.ready() == {"p0/b1", "p0/b2", "p1/r1"}
        world.haproxy.kill()
        world.haproxy.start()
        assert world.haproxy.ready() == {"p0/b1", "p0/b2", "p1/r1"}, "they are in the files"
        world.cluster.refused = {""}
        await world.cluster.delete(PODS, "r1", "red")
        await world.settle(LOOK_SECONDS + 15)
        assert world.haproxy.ready() == {"p0/b1", "p0/b2"}


def test_a_pod_is_read_from_any_state_that_it_may_have(world: World) -> None:
    bare = {"metadata": {"name": "b1", "namespace": "blue"}}
    assert read_pod(bare, world.settings).place is None
    assert read_pod({**bare, "status": None}, world.settings).place is None
    leaving = {**pod("b1"), "metadata": {**bare["metadata"], "deletionTimestamp": "2026-11-30T00:00:00Z"}}
    assert read_pod(leaving, world.settings).leaving
    assert read_pod(leaving, world.settings).place == Place("10.0.0.1", 8080, 8082)


def test_a_pod_says_by_the_name_of_a_port_that_it_speaks_tls(world: World) -> None:
    ports = [{"name": "http", "containerPort": 8080}, {"name": TLS_PORT, "containerPort": 8443}]
    spec = {"containers": [{"name": "sidecar"}, {"name": "worker", "ports": ports}]}
    read = read_pod({**pod("b1"), "spec": spec}, world.settings)
    assert (read.place, read.tls_place) == (Place("10.0.0.1", 8080, 8082), Place("10.0.0.1", 8443, 8082, tls=True))
    assert read_pod({**pod("b1"), "spec": {"containers": [{"ports": ports[:1]}]}}, world.settings).tls_place is None
    assert read_pod({**pod("b1", ip=""), "spec": spec}, world.settings).tls_place is None
