"""A worker: a whole platform whose functions are its control's."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rescoldo.edge.admin import AdminSocket
from rescoldo.edge.draining import has_calls
from rescoldo.gateway.servers import Place, Server, ServerKey
from rescoldo.link.protocol import Report
from rescoldo.model.deployed import Deployed
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.names import FunctionId, function_id
from support.archives import bundle_archive
from support.gateway import PATIENCE
from support.patience import until
from support.ports import free_ports
from support.real_gateway import P0, RealGateway
from support.served_control import ServedControl
from support.worker import POOL_SECRET, LiveWorker

pytestmark = pytest.mark.slow

FN = function_id("fn")
TELLS = (
    "import os, pathlib\n"
    "def handle(event, context):\n"
    "    secret = pathlib.Path(os.environ['secret_mount_path'], 'word').read_text()\n"
    "    return f\"{os.environ['greeting']} {secret}\"\n"
)


class Cell:
    """A worker and its control."""

    def __init__(self, control: ServedControl, live: LiveWorker) -> None:
        self.control, self.live = control, live

    def put(
        self, code: str = TELLS, name: str = "fn", greeting: str = "hello", minimum: int = 0,
        secrets: tuple[str, ...] = ("word",), **notes: str,
    ) -> Deployed:
        """Deploy in control, in place of what is there."""
        digest = self.control.put("bundles", bundle_archive(code))
        env, annotations = {"greeting": greeting}, {f"rescoldo.dev/{note}": value for note, value in notes.items()}
        spec = FunctionSpec(
            name, f"{name}:1", secrets=secrets, env_vars=env, annotations=annotations,
            labels={"com.openfaas.scale.min": str(minimum)},
        )  # fmt: skip
        documents = self.control.memory.documents
        before = self.control.ask(lambda: documents.get(function_id(name)))
        function = Function(spec, digest, 1.0, 1 if before is None else before.function.revision + 1)
        document = Deployed(function) if before is None else replace(before, function=function)
        self.control.ask(lambda: documents.put(document))
        return document

    def delete(self, function: FunctionId = FN) -> None:
        self.control.ask(lambda: self.control.memory.documents.delete(function))

    def reported(self) -> Report:
        """All that the worker's present controller has told."""
        return [Report("", {}, {}, {}), *self.control.memory.reported.values()][-1]

    def health(self) -> int:
        """The answer to a probe, which says no secret; 0: nobody answers."""
        connection = http.client.HTTPConnection(self.live.settings.metrics, timeout=10)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def asks_with(self, name: str) -> bool:
        """Whether the worker's last request had a certificate with that name."""
        return name in self.control.peers[-1]

    def calls(self) -> int:
        return sum(row.calls for row in self.control.memory.counted)


@contextmanager
def worker(folder: Path, **settings: Any) -> Iterator[Cell]:
    control = ServedControl(folder)
    control.memory.secret_values["openfaas-fn", "word"] = b"sesame"
    with control.serving(), LiveWorker(control.url, control.identity(folder / "pool"), **settings) as live:
        yield Cell(control, live)


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Cell]:
    with worker(tmp_path) as made:
        yield made


def test_a_function_of_control_wakes_at_its_first_call(cell: Cell) -> None:
    cell.put()
    first = cell.live.invoke("fn")
    assert first.status == 200, first.text
    assert (first.text, first.cold) == ("hello sesame", True)
    assert cell.live.invoke("fn").text == "hello sesame"
    cell.live.until(lambda: cell.calls() == 2, "control to count both calls")


def test_a_name_that_control_does_not_know_is_not_found(cell: Cell) -> None:
    begin = time.monotonic()
    answers = [cell.live.invoke("nobody") for _ in range(20)]
    assert {answer.status for answer in answers} == {404}, answers[0].text
    # asked once a second, and once more after the comparison at the start
    assert len(cell.control.memory.asked) <= 2 + (time.monotonic() - begin)


def test_a_change_in_control_is_served_and_a_removed_function_is_gone(cell: Cell) -> None:
    cell.put()
    assert cell.live.invoke("fn").text == "hello sesame"
    cell.put(greeting="good day")
    cell.live.until(lambda: cell.live.invoke("fn").text == "good day sesame", "the new revision")
    cell.delete()
    cell.live.until(lambda: cell.live.invoke("fn").status == 404, "the removal")


def test_what_a_worker_confirms_is_in_force_for_the_next_call(cell: Cell) -> None:
    """Also while its function is awake, and the edge calls it by itself."""
    memory, mark = cell.control.memory, 0
    for greeting in ("hello", "good day", "good evening"):
        mark += 1
        memory.marks[FN] = mark
        cell.put(greeting=greeting)
        if mark > 1:
            cell.live.until(lambda: memory.marked == {FN: mark}, "the worker to confirm the change")  # noqa: B023
        assert cell.live.invoke("fn").text == f"{greeting} sesame"
    memory.marks[FN] = mark + 1
    begin = time.monotonic()
    cell.delete()
    cell.live.until(lambda: memory.marked == {FN: mark + 1}, "the worker to confirm the removal")
    assert cell.live.invoke("fn").status == 404
    assert time.monotonic() - begin < PATIENCE / 2


def test_a_worker_that_ends_says_goodbye(tmp_path: Path) -> None:
    with worker(tmp_path) as cell:
        cell.live.until(lambda: cell.control.memory.reported, "a report")
        cell.live.stop()
        assert cell.control.memory.reported == {}


def test_control_hears_what_is_served_and_what_is_refused(cell: Cell) -> None:
    cell.put(gravity="low")
    first = cell.live.invoke("fn")
    assert (first.status, first.headers.get("retry-after")) == (503, "1")
    assert "rescoldo.dev/gravity: unknown annotation" in first.text
    cell.live.until(lambda: FN in cell.reported().refused, "the refusal")
    cell.put()
    cell.live.until(lambda: cell.live.invoke("fn").text == "hello sesame", "the later deployment")
    version = cell.control.memory.documents.shared[FN].version
    cell.live.until(lambda: cell.reported().applied == {FN: version}, "the version that is served")
    assert (cell.reported().awake, cell.reported().refused) == ({FN: 1}, {})
    cell.put(gravity="high")
    cell.live.until(lambda: FN in cell.reported().refused, "the refusal of a change")
    assert cell.live.invoke("fn").text == "hello sesame"
    assert cell.reported().applied == {FN: version}


def test_a_minimum_is_awake_where_control_renews_it(cell: Cell) -> None:
    cell.put(minimum=2)
    assert cell.live.system("POST", "/function/fn/keep", {"namespace": "openfaas-fn"}).status == 204
    cell.live.until(lambda: cell.reported().awake == {FN: 2}, "the minimum")
    assert cell.live.system("POST", "/function/other/keep").status == 404


def test_a_function_with_max_strict_runs_under_a_grant_alone(cell: Cell) -> None:
    memory = cell.control.memory
    other = cell.control.ask(lambda: memory.grant(FN, "another"))
    cell.put(**{"max-strict": "true"})
    refused = cell.live.invoke("fn")
    assert (refused.status, "another worker may still run it" in refused.text) == (503, True)
    assert 25 <= int(refused.headers["retry-after"]) <= 31
    cell.control.ask(lambda: memory.give_back(FN, "another", other.token))
    cell.live.until(lambda: cell.live.invoke("fn").status == 200, "a grant")
    cell.live.kill("controller")
    assert cell.live.invoke("fn").text == "hello sesame"
    assert not cell.control.ask(lambda: memory.grant(FN, "another")).seconds
    memory.leave()
    cell.live.until(lambda: cell.live.invoke("fn").status == 503, "the end of the grant", 3 * PATIENCE)


@pytest.mark.parametrize("killed", ["controller", "node", "edge", "supervisor"])
def test_without_control_known_functions_wake_whatever_is_killed(cell: Cell, killed: str) -> None:
    cell.put()
    assert cell.live.invoke("fn").text == "hello sesame"
    cell.control.memory.leave()
    cell.live.sleep("fn")
    assert cell.live.invoke("fn").text == "hello sesame"
    unknown = cell.live.invoke("other")
    assert (unknown.status, unknown.headers.get("retry-after")) == (503, "1")
    cell.live.kill(killed)
    assert cell.live.invoke("fn").text == "hello sesame"
    cell.live.sleep("fn")
    assert cell.live.invoke("fn").text == "hello sesame"
    cell.put(greeting="good day")
    cell.control.memory.come_back()
    cell.live.until(lambda: cell.live.invoke("fn").text == "good day sesame", "the change made meanwhile", 2 * PATIENCE)
    cell.live.until(lambda: cell.calls() >= 4, "control to count the calls made meanwhile")


CALLS_FN = (
    "import os, urllib.request\n"
    "def handle(event, context):\n"
    "    with urllib.request.urlopen(os.environ['OPENFAAS_GATEWAY'] + '/function/fn', timeout=30) as answer:\n"
    "        return b'it says ' + answer.read()\n"
)


def test_a_function_calls_another_through_the_clusters_gateway(tmp_path: Path) -> None:
    gateway = f"127.0.0.1:{free_ports(1)[0]}"
    with worker(tmp_path, functions_gateway=f"http://{gateway}") as cell:
        cell.put()
        cell.put(CALLS_FN, name="caller")
        asyncio.run(call_caller(cell.live, gateway))


async def call_caller(live: LiveWorker, address: str) -> None:
    async with RealGateway(address=address) as gateway:
        await know(gateway, live)
        answer = await gateway.call("/function/caller")
        assert (answer.status, answer.text) == (200, "it says hello sesame")


CALLS_ITS_WORKER = (
    "import os, urllib.error, urllib.request\n"
    "def handle(event, context):\n"
    "    found = []\n"
    "    for method, path in (('GET', '/function/fn'), ('GET', '/system/functions'), ('POST', '/system/functions')):\n"
    "        request = urllib.request.Request(event.body.decode() + path, b'{}' if method == 'POST' else None)\n"
    "        try:\n"
    "            found.append(urllib.request.urlopen(request, timeout=5).status)\n"
    "        except urllib.error.HTTPError as error:\n"
    "            found.append(error.code)\n"
    "    return f\"{found} {os.environ.get('OPENFAAS_GATEWAY')} {os.environ.get('gateway_hostname')}\"\n"
)


def test_a_function_cannot_use_its_own_worker_and_knows_the_clusters_gateway(tmp_path: Path) -> None:
    with worker(tmp_path, functions_gateway="http://rescoldo-gateway.rescoldo.svc") as cell:
        cell.put(CALLS_ITS_WORKER)
        answer = cell.live.invoke("fn", f"http://127.0.0.1:{cell.live.port}")
        assert answer.text == "[403, 403, 403] http://rescoldo-gateway.rescoldo.svc:80 rescoldo-gateway.rescoldo.svc"


def test_a_worker_that_has_not_heard_from_control_for_too_long_refuses_calls(tmp_path: Path) -> None:
    with worker(tmp_path, max_stale=4.0) as cell:
        cell.put()
        assert cell.live.invoke("fn").text == "hello sesame"
        cell.control.memory.leave()
        begin = time.monotonic()
        cell.live.until(lambda: cell.live.invoke("fn").status == 503, "calls to be refused")
        # control's last sign of life came up to 2 s before
        assert time.monotonic() - begin > 1.9
        for killed in ("edge", "controller"):
            cell.live.kill(killed)
            refused = cell.live.invoke("fn")
            assert (refused.status, refused.headers.get("x-rescoldo-reason")) == (503, "stale"), killed
        cell.control.memory.come_back()
        cell.live.until(lambda: cell.live.invoke("fn").text == "hello sesame", "calls to be served")


PRINTS = "def handle(event, context):\n    print('said', event.body.decode())\n    return 'done'\n"


def test_what_functions_print_is_on_the_workers_standard_output_as_json(tmp_path: Path) -> None:
    with worker(tmp_path, log_functions=True) as cell:
        cell.put(PRINTS)

        def printed() -> list[str]:
            lines = [json.loads(line) for line in cell.live.log().splitlines() if line.startswith("{")]
            assert all((line["namespace"], line["function"]) == ("openfaas-fn", "fn") for line in lines)
            assert all(line["instance"] and line["time"].endswith("Z") for line in lines)
            return [line["line"] for line in lines]

        assert cell.live.invoke("fn", "one").text == "done"
        cell.live.until(lambda: "said one" in printed(), "the line")
        assert "said one" in cell.live.function_log("fn"), "it is in the function's log, too"
        for killed in ("node", "supervisor"):
            cell.live.kill(killed)
            assert cell.live.invoke("fn", killed).text == "done"
            cell.live.until(lambda killed=killed: f"said {killed}" in printed(), "the next line")  # type: ignore[misc]


def test_a_worker_is_ready_once_it_wakes_functions_with_control_and_without(cell: Cell) -> None:
    cell.put(PRINTS, secrets=())
    for away in (False, True):  # the second time it knows the function
        assert cell.live.stop() == 0
        if away:
            cell.control.memory.leave()
        cell.live.spawn()
        cell.live.until(lambda: cell.health() == 200, "the worker to be ready")
        assert cell.live.invoke("fn", "x").text == "done"


def test_a_worker_that_drains_is_not_ready_and_finishes_its_calls(tmp_path: Path) -> None:
    slow = "import time\ndef handle(event, context):\n    time.sleep(1)\n    return 'done'\n"
    with worker(tmp_path, drain=0.5) as cell, ThreadPoolExecutor() as clients:
        cell.put(slow)
        call = clients.submit(cell.live.invoke, "fn")
        cell.live.until(lambda: in_flight(cell.live), "the call to be in flight")
        ending = clients.submit(cell.live.stop)
        cell.live.until(lambda: cell.health() == 404, "the drain")
        assert cell.live.invoke("fn").text == "done", "gateways that have not heard of it yet are served"
        assert (call.result().text, ending.result()) == ("done", 0)


def in_flight(live: LiveWorker) -> bool:
    return asyncio.run(has_calls(AdminSocket(live.settings.admin_socket)))


def test_a_renewed_certificate_is_used_without_a_restart(cell: Cell) -> None:
    cell.put()
    assert cell.live.invoke("fn").status == 200
    before, log = cell.live.pid("controller"), cell.live.log()
    cell.control.identity(Path(cell.live.settings.identity or ""), also="rescoldo://renewed")
    cell.live.until(lambda: cell.asks_with("rescoldo://renewed"), "a request with the new certificate")
    cell.put(greeting="good day")  # told by the stream of changes
    cell.live.until(lambda: cell.live.invoke("fn").text == "good day sesame", "the new revision")
    asked = len(cell.control.peers)
    assert cell.live.invoke("other").status == 404
    assert all("rescoldo://renewed" in peer for peer in cell.control.peers[asked:])
    assert cell.live.pid("controller") == before
    assert "Traceback" not in cell.live.log().removeprefix(log)


def test_what_the_owner_changes_is_in_control(cell: Cell) -> None:
    cell.put()
    assert cell.live.invoke("fn").text == "hello sesame"
    assert cell.live.system("POST", "/scale-function/fn", {"serviceName": "fn", "replicas": 2}).status == 202
    cell.live.until(lambda: cell.control.memory.documents.shared[FN].requested == 2, "the requested replicas")
    assert cell.live.system("DELETE", "/functions", {"functionName": "fn"}).status == 202
    assert cell.control.memory.documents.shared == {}


def test_calls_and_controls_requests_arrive_through_a_gateway(cell: Cell) -> None:
    cell.put()
    asyncio.run(call_through_a_gateway(cell.live))


async def know(gateway: RealGateway, live: LiveWorker) -> None:
    """Make the worker the only one of its pool."""
    ports = (int(address.rpartition(":")[2]) for address in (live.settings.gateway, live.settings.metrics))
    server = Server(ServerKey(P0, "w1"), Place("127.0.0.1", *ports), draining=False)
    await gateway.know({"openfaas-fn": P0}, {"openfaas-fn": POOL_SECRET}, control="secret-of-control")
    await gateway.proxy.set_servers([server])
    await until(gateway.steady)


async def call_through_a_gateway(live: LiveWorker) -> None:
    async with RealGateway() as gateway:
        await know(gateway, live)

        async def is_cold() -> bool:
            answer = await gateway.call("/function/fn", headers={"X-Rescoldo-Pool": "chosen by a client"})
            assert (answer.status, answer.text) == (200, "hello sesame")
            return answer.headers["x-cold-start"] == "true"

        async def is_warm() -> bool:
            return not await is_cold()

        assert await is_cold()
        await until(is_warm)
        key = {"X-Rescoldo-Key": FN}
        assert (await gateway.call("/-/owner/system/functions", headers=key)).status == 404
        owner = await gateway.call(
            "/-/owner/system/functions", headers={**key, "X-Rescoldo-Control": "secret-of-control"}
        )
        assert (owner.status, owner.headers["x-rescoldo-worker"]) == (200, "w1")
        assert [one["name"] for one in json.loads(owner.text)] == ["fn"]
        await gateway.know({"openfaas-fn": P0}, {"openfaas-fn": "secret-of-another-pool"})
        assert (await gateway.call("/function/fn")).status == 403
