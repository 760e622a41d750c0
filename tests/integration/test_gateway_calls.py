"""The rules of a gateway, against a real HAProxy with the shipped configuration; workers and control are stubs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from rescoldo.gateway import config
from rescoldo.gateway.servers import Plan, PoolName, choose_ids, plan
from support.patience import until
from support.real_edge import Message, ok
from support.real_gateway import RealGateway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

P1 = PoolName("p1")
BLUE = {"blue": "p0"}


@pytest.fixture
async def real() -> AsyncIterator[RealGateway]:
    async with RealGateway(slowstart=0.2) as made:
        await made.know(BLUE, control="tell-it-nobody")
        yield made


async def crowd(real: RealGateway, *names: str) -> None:
    """Start workers of namespace blue."""
    for name in names:
        await real.worker(name)
    await real.place(*names)


class Gate:
    """Keeps calls until a test opens it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.waiting = 0

    async def respond(self, _: Message) -> bytes:
        self.waiting += 1
        await self.open.wait()
        return ok("late")


# -- which worker


async def test_two_gateways_that_heard_of_workers_in_different_orders_choose_the_same_ones(real: RealGateway) -> None:
    await crowd(real, "w1", "w2", "w3")
    async with RealGateway(slowstart=0.2) as other:
        other.workers = {**real.workers}
        await other.know(BLUE)
        await other.place("w3", "w1", "w2")
        first, second = await real.owners(100), await other.owners(100)
        assert first == second
        assert min(Counter(first.values()).values()) >= 15, "the functions are spread over all workers"


async def test_an_added_worker_takes_functions_from_others_and_a_removed_one_gives_its_own_back(
    real: RealGateway,
) -> None:
    await crowd(real, "w1", "w2")
    before = await real.owners(100)
    await real.worker("w3")
    await real.place("w1", "w2", "w3")
    after = await real.owners(100)
    moved = {name for name in before if before[name] != after[name]}
    assert 15 <= len(moved) <= 55
    assert {after[name] for name in moved} == {"w3"}
    await real.place("w1", "w2")
    await until(lambda: gone(real, "w3"))
    assert await real.owners(100) == before


async def gone(real: RealGateway, name: str) -> bool:
    await real.proxy.set_servers(real.server_list)
    return not await real.status(name)


async def test_a_bare_name_is_of_the_default_namespace(real: RealGateway) -> None:
    await real.know({"openfaas-fn": "p0"})
    await crowd(real, "w1", "w2", "w3")
    for name in ("one", "two", "three", "four"):
        bare, full = await real.call(f"/function/{name}/a?b=c"), await real.call(f"/function/{name}.openfaas-fn")
        assert bare.text == full.text
    assert real.workers[bare.text].requests[-2].path == "/function/four/a?b=c", "the worker gets the path as it was"


async def test_a_worker_that_does_not_answer_its_checks_yet_gets_no_call(real: RealGateway) -> None:
    await crowd(real, "w1")
    late = await real.worker("w2")
    late.health = 500
    await real.proxy.set_servers([real.server("w1"), real.server("w2")])
    assert set((await real.owners(30)).values()) == {"w1"}
    late.health = 200
    await until(real.steady)
    assert set((await real.owners(30)).values()) == {"w1", "w2"}


async def test_a_new_worker_gets_its_functions_one_after_another() -> None:
    async with RealGateway(slowstart=4.0) as real:
        await real.know(BLUE)
        for name in ("w1", "w2"):
            await real.worker(name)
        await real.proxy.set_servers([real.server("w1")])
        await until(real.steady)
        await real.proxy.set_servers([real.server("w1"), real.server("w2")])
        shares = []
        while not await real.steady():
            shares.append(Counter((await real.owners(40)).values())["w2"])
            await asyncio.sleep(0.2)
        assert shares[0] <= 6 and shares[-1] >= 10, shares


# -- drains


async def test_a_worker_that_answers_404_finishes_its_calls_and_gets_no_new_ones(real: RealGateway) -> None:
    await crowd(real, "w1", "w2")
    owners = await real.owners(20)
    name = next(name for name, owner in owners.items() if owner == "w1")
    gate, first = Gate(), real.workers["w1"]
    first.respond = gate.respond
    calls = [
        asyncio.create_task(real.call(f"/function/{name}", method=method, body=b"x"))
        for method in ("GET", "POST", "PUT") for _ in range(3)
    ]  # fmt: skip
    await until(lambda: gate.waiting == 9)
    first.health = 404
    await until(lambda: drains(real, "w1"))
    assert set((await real.owners(20)).values()) == {"w2"}
    gate.open.set()
    assert {(answer.status, answer.text) for answer in await asyncio.gather(*calls)} == {(200, "late")}


async def drains(real: RealGateway, name: str) -> bool:
    return (await real.status(name)).startswith(("NOLB", "DRAIN"))


async def test_a_server_that_drains_is_removed_after_its_last_call(real: RealGateway) -> None:
    await crowd(real, "w1", "w2")
    owners = await real.owners(20)
    name = next(name for name, owner in owners.items() if owner == "w1")
    gate = Gate()
    real.workers["w1"].respond = gate.respond
    calls = [
        asyncio.create_task(real.call(f"/function/{name}", method=method, body=b"x")) for method in ("GET", "POST")
    ]
    await until(lambda: gate.waiting == 2)
    await real.proxy.set_servers([real.server("w1", draining=True), real.server("w2")])  # its pod is being deleted
    assert set((await real.owners(20)).values()) == {"w2"}
    real.server_list = [real.server("w2")]  # and is gone
    for _ in range(3):
        assert await real.proxy.set_servers(real.server_list), "it still has calls"
    gate.open.set()
    assert {(answer.status, answer.text) for answer in await asyncio.gather(*calls)} == {(200, "late")}
    await until(lambda: gone(real, "w1"))


async def test_a_gateway_that_drains_says_so_and_serves_on(real: RealGateway) -> None:
    await crowd(real, "w1")
    assert (await real.call("/healthz")).status == 200
    await real.proxy.begin_draining()
    assert (await real.call("/healthz")).status == 404
    answer = await real.call("/function/fn.blue")
    assert (answer.status, answer.headers["connection"]) == (200, "close")


# -- deaths


async def test_a_call_that_kills_its_worker_is_repeated_on_one_other_if_it_may_be(real: RealGateway) -> None:
    await crowd(real, "w1", "w2", "w3", "w4")

    async def die(_: Message) -> None:
        return None

    for method, status, executed in (("GET", 502, 2), ("PUT", 502, 2), ("POST", 502, 1), ("PATCH", 502, 1)):
        await real.owners(20)  # connections to each worker are idle
        for worker in real.workers.values():
            worker.respond = die
            worker.requests.clear()
        body = None if method == "GET" else b"x" * 100
        assert (await real.call("/function/fn.blue", method=method, body=body)).status == status
        hit = [worker.name for worker in real.workers.values() for _ in worker.requests]
        assert len(hit) == len(set(hit)) == executed, f"{method} reached {hit}"
        for worker in real.workers.values():
            worker.respond = None
        await until(real.steady)


async def test_a_repeated_call_is_answered_by_the_other_worker(real: RealGateway) -> None:
    await crowd(real, "w1", "w2")
    owner = real.workers[(await real.call("/function/fn.blue")).text]

    async def die(_: Message) -> None:
        owner.crash()

    owner.respond = die
    answer = await real.call("/function/fn.blue")
    assert (answer.status, answer.text) == (200, "w2" if owner.name == "w1" else "w1")
    assert (await real.call("/function/fn.blue", method="POST", body=b"x")).text == answer.text


async def test_calls_to_a_worker_that_is_gone_go_to_another_before_its_check_fails(real: RealGateway) -> None:
    await crowd(real, "w1", "w2")
    owners = await real.owners(20)
    real.workers["w1"].crash()
    calls = [
        real.call(f"/function/{name}", method=method, body=b"x") for name in owners for method in ("GET", "POST")
    ]  # fmt: skip
    assert {(answer.status, answer.text) for answer in await asyncio.gather(*calls)} == {(200, "w2")}


async def test_calls_at_a_worker_that_cannot_be_reached_are_ended(real: RealGateway) -> None:
    await crowd(real, "w1")
    gate, worker = Gate(), real.workers["w1"]
    worker.respond = gate.respond
    call = asyncio.create_task(real.call("/function/fn.blue", method="POST", body=b"x"))
    await until(lambda: gate.waiting == 1)
    worker.refuse_checks()
    assert (await call).status == 502
    gate.open.set()


async def test_calls_at_a_worker_that_only_fails_its_checks_go_on(real: RealGateway) -> None:
    await crowd(real, "w1", "w2")
    gate, worker = Gate(), real.workers["w1"]
    name = next(name for name, owner in (await real.owners(20)).items() if owner == "w1")
    worker.respond = gate.respond
    call = asyncio.create_task(real.call(f"/function/{name}", method="POST", body=b"x"))
    await until(lambda: gate.waiting == 1)
    worker.health = 500
    await until(lambda: is_down(real, "w1"))
    assert (await real.call(f"/function/{name}")).text == "w2", "no other call goes there"
    await asyncio.sleep(3 * real.settings.ending_ms / 1000)  # nothing tells that a call is not ended
    gate.open.set()
    assert (await call).text == "late"


async def is_down(real: RealGateway, name: str) -> bool:
    return (await real.status(name)).startswith("DOWN")


async def test_a_restarted_haproxy_begins_with_the_last_known_workers(real: RealGateway) -> None:
    await crowd(real, "w1", "w2", "w3")
    before = await real.owners(50)
    servers = real.server_list
    config.write_pools(real.settings, servers, choose_ids(servers, ()))
    config.write_map(real.settings, config.POOLS, {**BLUE, "*": "1"})
    await real.kill()
    await real.start()
    assert await real.owners(50) == before
    assert (await real.call("/healthz")).status == 200
    assert plan(await real.proxy.servers(), servers, 0.2, "") == Plan((), frozenset()), "an agent has nothing to change"


async def test_servers_of_the_file_are_drained_and_removed_like_others(real: RealGateway) -> None:
    for name in ("w1", "w2"):
        await real.worker(name)
    servers = [real.server("w1"), real.server("w2")]
    config.write_pools(real.settings, servers, choose_ids(servers, ()))
    await real.kill()
    await real.start()
    await real.know(BLUE)
    await real.owners(10)  # leaves idle connections
    real.server_list = servers[:1]
    await until(lambda: gone(real, "w2"))
    assert set((await real.owners(10)).values()) == {"w1"}


# -- doors


async def test_headers_of_ours_do_not_come_from_clients(real: RealGateway) -> None:
    await real.know(BLUE, {"blue": "of-the-pool"})
    await crowd(real, "w1")
    given = {"X-Rescoldo-Pool": "mine", "X-Rescoldo-Control": "mine", "x-rescoldo-key": "a.red", "X-Rescoldo-New": "1"}
    await real.call("/function/fn.blue", headers={**given, "X-Other": "stays"})
    got = real.workers["w1"].requests[-1].headers
    assert {name: value for name, value in got.items() if name.startswith("x-rescoldo-")} == {
        "x-rescoldo-pool": "of-the-pool"
    }
    assert got["x-other"] == "stays"
    await real.call("/system/functions", headers=given)
    assert not [name for name in real.calls_of_control()[-1].headers if name.startswith("x-rescoldo-")]


async def test_each_pool_gets_its_own_secret_and_its_own_calls(real: RealGateway) -> None:
    await real.know({"blue": "p0", "red": "p1"}, {"blue": "of-blue", "red": "of-red"})
    await crowd(real, "w1")
    await real.worker("w2")
    await real.place("w2", pool=P1)
    for namespace, name in (("blue", "w1"), ("red", "w2")):
        assert (await real.call(f"/function/fn.{namespace}")).text == name
        assert real.workers[name].requests[-1].headers["x-rescoldo-pool"] == f"of-{namespace}"


async def test_the_owner_answers_control_and_is_named(real: RealGateway) -> None:
    await real.know(BLUE, {"blue": "of-blue"}, control="tell-it-nobody")
    await crowd(real, "w1", "w2", "w3")
    for name, owner in (await real.owners(12)).items():
        answer = await real.call(
            "/-/owner/system/function/x?y=z",
            headers={"X-Rescoldo-Control": "tell-it-nobody", "X-Rescoldo-Key": name},
            method="POST",
            body=b"{}",
        )
        assert (answer.status, answer.text, answer.headers["x-rescoldo-worker"]) == (200, owner, owner)
        request = real.workers[owner].requests[-1]
        assert (request.first, request.body) == ("POST /system/function/x?y=z HTTP/1.1", b"{}")
        assert request.headers["x-rescoldo-pool"] == "of-blue"
        assert "x-rescoldo-control" not in request.headers
    assert "x-rescoldo-worker" not in (await real.call("/function/fn.blue")).headers


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-Rescoldo-Key": "fn.blue"}, {"X-Rescoldo-Control": "guess", "X-Rescoldo-Key": "fn.blue"},
     {"X-Rescoldo-Control": "tell-it-nobody"}, {"X-Rescoldo-Control": "*", "X-Rescoldo-Key": "fn.blue"}],
)  # fmt: skip
async def test_what_is_inside_is_closed_to_others(real: RealGateway, headers: dict[str, str]) -> None:
    await crowd(real, "w1")
    for path in ("/-/owner/system/functions", "/-/metrics", "/-/", "http://gateway/-/owner/x"):
        assert (await real.call(path, headers=headers)).status == 404
    assert (real.workers["w1"].requests, real.calls_of_control()) == ([], [])


async def test_an_owner_of_an_unknown_namespace_is_refused(real: RealGateway) -> None:
    headers = {"X-Rescoldo-Control": "tell-it-nobody", "X-Rescoldo-Key": "fn.red"}
    answer = await real.call("/-/owner/system/functions", headers=headers)
    assert (answer.status, answer.text.split(";")[0]) == (404, "namespace red has no workers here")


@pytest.mark.parametrize(
    "path", ["/", "/ui/", "/system/functions?a=b", "/async-function/fn.blue", "/publickey", "/build"]
)
async def test_the_platforms_own_paths_are_controls(real: RealGateway, path: str) -> None:
    answer = await real.call(path, method="POST", body=b"x")
    assert (answer.text, real.calls_of_control()[-1].path) == ("control", path)


async def test_without_control_its_paths_get_503_and_functions_go_on(real: RealGateway) -> None:
    await crowd(real, "w1")
    real.control.crash()
    answer = await real.call("/system/functions")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "the controller did not take the request" in answer.text
    assert (await real.call("/function/fn.blue")).text == "w1"


async def test_what_cannot_be_called_is_refused_in_our_words(real: RealGateway) -> None:
    unknown = await real.call("/function/fn.red")
    assert (unknown.status, unknown.headers["x-openfaas-internal"]) == (404, "proxy")
    assert unknown.text == "namespace red has no workers here; see the namespaces with: rescoldo list\n"
    assert (await real.call("/function/fn.*")).status == 404
    empty = await real.call("/function/fn.blue")
    assert (empty.status, empty.headers["retry-after"]) == (503, "1")
    assert empty.text.startswith("namespace blue has no worker that takes calls now; ")
    assert (await real.call("/function/")).status == 400


async def test_a_gateway_without_an_agent_so_far_takes_no_part() -> None:
    async with RealGateway() as real:
        for path in ("/healthz", "/function/fn.blue"):
            answer = await real.call(path)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")


async def test_the_client_is_named_to_the_worker_unless_a_proxy_has_named_it(real: RealGateway) -> None:
    await crowd(real, "w1")
    await real.call("/function/fn.blue")
    got = real.workers["w1"].requests[-1].headers
    assert [got[f"x-forwarded-{part}"] for part in ("for", "host", "proto")] == ["127.0.0.1", "gateway", "http"]
    await real.call("/function/fn.blue", headers={"X-Forwarded-For": "192.0.2.7"})
    assert real.workers["w1"].requests[-1].headers["x-forwarded-for"] == "192.0.2.7"


async def test_a_client_that_no_trusted_proxy_vouches_for_is_named_by_its_address() -> None:
    async with RealGateway(slowstart=0.2, trusted_proxies=("192.0.2.0/24",)) as real:
        await real.know(BLUE)
        await crowd(real, "w1")
        await real.call("/function/fn.blue", headers={"X-Forwarded-For": "192.0.2.7"})
        assert real.workers["w1"].requests[-1].headers["x-forwarded-for"] == "127.0.0.1"
