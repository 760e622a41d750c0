"""What every `Endpoint` does, one for each way in which an instance takes requests."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rescoldo.model.errors import StartFailed
from rescoldo.model.ids import INSTANCE_UIDS
from rescoldo.model.instance import Launch
from rescoldo.model.names import InstanceId, function_id
from rescoldo.model.settings import Settings
from rescoldo.node.sockets.addresses import socket_path, tcp_address
from rescoldo.node.sockets.endpoint import Endpoint
from rescoldo.node.sockets.endpoints import Endpoints
from rescoldo.node.sockets.given_socket import GivenSocket
from rescoldo.node.sockets.probe import accepts
from rescoldo.node.sockets.program_port import ProgramPort
from rescoldo.node.sockets.program_socket import ProgramSocket

ROOT = os.geteuid() == 0
UID = INSTANCE_UIDS[-1]
WAYS = ["given", "inherited", "shared port", "own port", pytest.param("unix", marks=pytest.mark.root)]


@dataclass
class Way:
    """An endpoint, and a program that takes requests there."""

    endpoint: Endpoint
    settings: Settings
    again: Callable[[], Endpoint]  # another one for the same instance

    @contextlib.contextmanager
    def program(self) -> Iterator[socket.socket]:
        """Listen as a program does that was given `open_for_child`."""
        descriptor = self.endpoint.open_for_child()
        if self.endpoint.tcp is not None:
            os.close(descriptor)
            listener = socket.create_server(self.endpoint.tcp)
        elif self.endpoint.gives_folder:
            os.close(descriptor)
            listener = socket.socket(socket.AF_UNIX)
            path = socket_path(self.endpoint.address)
            assert path is not None
            listener.bind(str(path.parents[1] / "in" / "http"))
            listener.listen()
        else:
            listener = socket.socket(fileno=descriptor)
        with listener:
            yield listener


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    if request.param == "unix" and not ROOT:
        pytest.skip("needs root")
    folder = tempfile.mkdtemp(prefix="ep-")  # short: a socket's path has at most 107 bytes
    settings = Settings(folder, folder)
    for needed in (settings.instances, settings.program_sockets):
        needed.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    upstream = {"given": "", "inherited": "inherited", "unix": "unix"}.get(request.param, f"tcp:{port}")
    launch = Launch(InstanceId("i1"), function_id("fn"), "digest", upstream=upstream, ready_timeout=5.0)
    endpoints = Endpoints(settings, privileged=ROOT, fenced=request.param == "own port")
    uid = UID if ROOT or request.param == "own port" else None

    def choose() -> Endpoint:
        return endpoints.choose(launch, uid)

    made = Way(choose(), settings, choose)
    yield made
    made.endpoint.put_away()
    shutil.rmtree(folder)


async def make(endpoint: Endpoint) -> None:
    endpoint.make()
    assert await endpoint.take_over([]) < 1


def connect(address: str) -> socket.socket:
    if (where := tcp_address(address)) is not None:
        return socket.create_connection(where, 5)
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(socket_path(address)))
    return client


def test_clients_foresee_an_address_that_matches_the_nodes_description(way: Way) -> None:
    described = f"unix@{way.settings.instances}/i1.sock"
    assert way.endpoint.foreseen == (way.endpoint.address == described)
    assert way.endpoint.tcp == tcp_address(way.endpoint.address)
    assert way.again().address == way.endpoint.address


async def test_a_probe_succeeds_when_a_program_takes_requests_and_not_before(way: Way) -> None:
    await make(way.endpoint)
    with way.endpoint.probing() as accepting:
        assert not accepting()
        with way.program() as listener:
            if way.endpoint.replaceable:  # the node listens there already: only the program's accept counts
                assert not accepting()
                listener.accept()[0].close()
            assert accepting()


async def test_a_process_gets_a_socket_a_folder_or_nothing(way: Way) -> None:
    await make(way.endpoint)
    descriptor = way.endpoint.open_for_child()
    try:
        mode = os.fstat(descriptor).st_mode
        assert stat.S_ISDIR(mode) == way.endpoint.gives_folder
        assert stat.S_ISSOCK(mode) == way.endpoint.replaceable
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)


async def test_requests_wait_in_the_backlog_and_a_replacement_process_gets_them(way: Way) -> None:
    await make(way.endpoint)
    backlog = way.endpoint.backlog
    if backlog is None:
        assert not way.endpoint.replaceable
        return
    with connect(way.endpoint.backlog_address) as client:
        client.sendall(b"waits")
        taken, _ = backlog.accept()
        with taken:
            assert taken.recv(10) == b"waits"
    assert way.endpoint.replaceable == (way.endpoint.backlog_address == way.endpoint.address)


async def test_a_socket_that_has_lost_its_name_is_not_whole(way: Way) -> None:
    await make(way.endpoint)
    with way.program(), way.endpoint.probing() as accepting:
        assert accepting() or way.endpoint.replaceable
        assert way.endpoint.is_whole
        if (path := socket_path(way.endpoint.address)) is not None:
            path.unlink()
        assert way.endpoint.is_whole == (path is None)


async def test_put_away_leaves_nothing_and_the_next_endpoint_can_have_the_address(way: Way) -> None:
    await make(way.endpoint)
    with way.program(), way.endpoint.probing() as accepting:
        accepting()
    stand_in = way.endpoint.backlog.getsockname() if way.endpoint.tcp and way.endpoint.backlog else None
    for _ in range(2):
        way.endpoint.put_away()
    assert way.endpoint.backlog is None
    assert not any(way.settings.instances.iterdir())
    assert not any(way.settings.program_sockets.iterdir())
    assert way.settings.run not in Path("/proc/self/mounts").read_text()
    if stand_in is not None:
        assert not accepts(socket.AF_INET, stand_in)
    way.endpoint = way.again()
    await make(way.endpoint)


async def test_an_endpoint_that_cannot_be_made_leaves_nothing(way: Way) -> None:
    if way.endpoint.tcp is not None:
        way.endpoint.make()  # a port needs no folder
        assert way.endpoint.backlog is None
        return
    for folder in (way.settings.instances, way.settings.program_sockets):
        folder.rmdir()
    with pytest.raises(OSError):
        way.endpoint.make()
    assert way.endpoint.backlog is None
    assert not way.settings.program_sockets.exists()


# -- choice of the endpoint


@pytest.mark.parametrize(
    ("upstream", "kind"),
    [("", GivenSocket), ("inherited", GivenSocket), ("unix", ProgramSocket), ("tcp:8000", ProgramPort)],
)
def test_the_upstream_of_a_launch_chooses_the_endpoint(tmp_path: Path, upstream: str, kind: type) -> None:
    launch = Launch(InstanceId("i1"), function_id("fn"), "digest", upstream=upstream)
    endpoints = Endpoints(Settings(str(tmp_path), str(tmp_path)), privileged=True, fenced=True)
    assert type(endpoints.choose(launch, UID)) is kind


def test_a_program_without_a_uid_of_its_own_cannot_bind_a_unix_socket(tmp_path: Path) -> None:
    launch = Launch(InstanceId("i1"), function_id("fn"), "digest", upstream="unix")
    endpoints = Endpoints(Settings(str(tmp_path), str(tmp_path)), privileged=False, fenced=False)
    with pytest.raises(StartFailed, match=r"needs a platform that runs as root; use http://127\.0\.0\.1:PORT"):
        endpoints.choose(launch, None)


def test_an_adopted_program_keeps_its_address_though_ports_are_fenced_now(tmp_path: Path) -> None:
    launch = Launch(InstanceId("i1"), function_id("fn"), "digest", upstream="tcp:8000")
    endpoints = Endpoints(Settings(str(tmp_path), str(tmp_path)), privileged=True, fenced=True)
    assert endpoints.choose(launch, UID).address != "127.0.0.1:8000"
    assert endpoints.choose(launch, UID, "127.0.0.1:8000").address == "127.0.0.1:8000"
