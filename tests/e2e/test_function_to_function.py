"""Functions that call each other through the gateway by name, and functions that would take all its connections."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rescoldo.isolation import netfence
from rescoldo.isolation.fencing.addresses import FIRST_ADDRESS, GATEWAYS
from support.live import Live
from support.ports import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.root]
needs_fence = pytest.mark.skipif(
    os.geteuid() != 0 or not netfence.available(), reason="needs root and cgroup v2 for a network fence"
)

# answers with its caller's address
CALLEE = """
import json
def handle(event, context):
    return json.dumps({"from": event.headers.get("x-forwarded-for")})
"""

# calls the URL in its body
CALLER = """
import json, os, urllib.error, urllib.request
def handle(event, context):
    url = event.body.decode().format(**os.environ)
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return json.dumps({"status": answer.status, "text": answer.read().decode()})
    except urllib.error.HTTPError as error:
        return json.dumps({"status": error.code, "text": error.read().decode()})
    except OSError as error:
        return json.dumps({"status": 0, "text": repr(error)})
"""

# keeps as many connections as it can get, without a request
GREEDY = """
import socket, threading, time
held = []
def grab(address):
    while True:
        held[:] = [one for one in held if open_still(one)]
        for _ in range(400 - len(held)):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(address)
            held.append(one)
        time.sleep(0.02)
def open_still(one):
    try:
        if one.recv(1):
            return True
    except BlockingIOError:
        return True
    except OSError:
        pass
    one.close()
    return False
def handle(event, context):
    host, _, port = event.body.decode().rpartition(":")
    threading.Thread(target=grab, args=((host, int(port)),), daemon=True).start()
"""


@pytest.fixture(scope="module", params=["127.0.0.1", "0.0.0.0"])
def calling(request: pytest.FixtureRequest, free_port: int) -> Iterator[Live]:
    """A platform at an unusual port, at loopback alone or at all addresses, with a function that calls and one to be
    called."""
    with Live(gateway=f"{request.param}:{free_port}") as live:
        live.deploy("callee", CALLEE)
        live.deploy("caller", CALLER)
        yield live


@pytest.fixture(scope="module")
def free_port() -> int:
    return free_ports(1)[0]


def reached(live: Live, url: str) -> dict[str, Any]:
    """Return the caller's result for `url`, which may name variables of its environment."""
    answer = live.invoke("caller", url)
    assert answer.status == 200, answer.text
    return dict(json.loads(answer.text))


def comes_through(live: Live, base: str = "http://gateway.openfaas:8080") -> None:
    found = reached(live, f"{base}/function/callee")
    assert found["status"] == 200, found
    # the edge counts it for the calling instance
    assert ipaddress.ip_address(json.loads(found["text"])["from"]) in ipaddress.ip_network(f"{FIRST_ADDRESS}/15")


@needs_fence
@pytest.mark.parametrize(
    "base",
    [
        "http://gateway.openfaas:8080",
        "http://gateway:8080",
        "http://gateway:{{port}}",
        "http://127.0.0.1:{{port}}",
        "http://localhost:{{port}}",
        "{OPENFAAS_GATEWAY}",
        "http://{gateway_hostname}:8080",
    ],
)
def test_a_function_calls_another_by_the_gateways_names(calling: Live, base: str) -> None:
    comes_through(calling, base.replace("{{port}}", str(calling.port)))


@needs_fence
def test_functions_reach_the_gateway_at_each_of_its_addresses(calling: Live) -> None:
    host, port = calling.settings.gateway.rsplit(":", 1)
    for address, _ in netfence.endpoints(host, int(port)):
        if address.version == 4 and not address.is_unspecified:
            comes_through(calling, f"http://{address}:{port}")


@needs_fence
def test_the_platforms_api_asks_functions_for_the_login(calling: Live) -> None:
    assert reached(calling, "http://gateway:8080/system/functions")["status"] == 401


@needs_fence
def test_status_shows_the_gateways_address_for_functions(calling: Live) -> None:
    status = json.loads(calling.system("GET", "/status").text)
    assert status["isolation"]["gateway"] == "http://gateway.openfaas:8080, http://gateway:8080"


@needs_fence
@pytest.mark.parametrize("part", ["edge", "controller", "node", "supervisor", "guardian", "reload"])
def test_functions_reach_the_gateway_after_a_part_of_the_platform_was_replaced(calling: Live, part: str) -> None:
    comes_through(calling)
    name = "edge" if part == "reload" else part
    before = calling.pid(name)
    if part == "reload":
        os.kill(calling.pid("supervisor"), signal.SIGHUP)
    else:
        calling.kill(name)
    calling.until(lambda: calling.pid(name) not in (0, before), f"another {name}")
    comes_through(calling)


def connections(live: Live) -> dict[str, str]:
    """Return the edge's statistics of the connections to the gateway."""
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(str(live.settings.admin_socket))
        admin.sendall(b"show stat gateway 1 -1\n")
        with admin.makefile() as answer:
            head, row = answer.read().splitlines()[:2]
    return dict(zip(head.split(","), row.split(","), strict=True))


def take_all(live: Live, *functions: str) -> None:
    """Let functions take as many connections as they can get, until the edge refuses some or has no more."""
    for name in functions:
        live.deploy(name, GREEDY)
        assert live.invoke(name, live.settings.gateway).status == 200

    def refused() -> bool:
        found = connections(live)
        return int(found["dcon"]) > 200 or int(found["scur"]) == int(found["slim"])

    live.until(refused, "the functions to ask for more than they get")


@needs_fence
def test_a_function_that_takes_all_connections_it_can_get_leaves_others_enough() -> None:
    # of 200 connections 50 are for instances, 12 for each
    with Live(max_connections=200, max_holds=20) as live:
        live.deploy("callee", CALLEE)
        live.deploy("caller", CALLER)
        take_all(live, "greedy")
        for _ in range(10):
            assert live.invoke("callee", timeout=5).status == 200
            comes_through(live)
        assert 12 <= int(connections(live)["scur"]) <= 20


@needs_fence
def test_functions_that_take_all_connections_together_leave_other_clients_enough() -> None:
    with Live(max_connections=200, max_holds=20) as live:
        live.deploy("callee", CALLEE)
        take_all(live, *(f"greedy-{number}" for number in range(6)))
        for _ in range(10):
            assert live.invoke("callee", timeout=5).status == 200
        assert int(connections(live)["scur"]) <= 60


@needs_fence
def test_names_and_variables_can_be_switched_off() -> None:
    with Live(gateway_names=False) as live:
        live.deploy("caller", "import os\ndef handle(event, context):\n    return '\\n'.join(os.environ)")
        variables = live.invoke("caller").text.splitlines()
        assert "OPENFAAS_GATEWAY" not in variables
        assert "gateway_hostname" not in variables
        live.deploy("reader", "def handle(event, context):\n    return open('/etc/hosts').read()")
        assert "gateway.openfaas" not in live.invoke("reader").text
        status = json.loads(live.system("GET", "/status").text)
        assert status["isolation"]["gateway"] == "not shown to functions"


@needs_fence
def test_a_function_that_sets_the_variables_itself_keeps_its_own() -> None:
    with Live() as live:
        code = "import os\ndef handle(event, context):\n    return os.environ['gateway_hostname']"
        live.deploy("own", code, envVars={"gateway_hostname": "elsewhere"})
        assert live.invoke("own").text == "elsewhere"


@needs_fence
def test_functions_see_the_names_in_etc_hosts_and_the_machines_file_stays_unchanged() -> None:
    machine = Path("/etc/hosts")
    before = machine.stat(), machine.read_bytes()
    with Live() as live:
        live.deploy("reader", "def handle(event, context):\n    return open('/etc/hosts').read()")
        shown = live.invoke("reader").text
        address = netfence.gateway_address(live.settings.run)
        assert address in GATEWAYS
        assert shown.startswith(f"{address} gateway.openfaas gateway\n")
        assert shown.partition("\n")[2] == before[1].decode()
    after = machine.stat(), machine.read_bytes()
    assert (after[0].st_mtime_ns, after[1]) == (before[0].st_mtime_ns, before[1])
