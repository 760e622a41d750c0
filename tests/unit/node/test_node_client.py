"""A client's requests to its node, and their order."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest

from rescoldo.model.errors import NodeUnavailable
from rescoldo.model.instance import Launch
from rescoldo.model.names import InstanceId, function_id
from rescoldo.model.settings import Settings
from rescoldo.node.client import NodeClient, _NodeConnection
from rescoldo.node.protocol import NodeDescription
from rescoldo.node.wire import decode, encode

LAUNCH = Launch(InstanceId("i1"), function_id("fn"), "digest")


class Recorder:
    """A node that describes itself, confirms watchers, and answers nothing else."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.folder = "/one"
        self.asked: list[str] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        self._writers.clear()
        await self._server.wait_closed()

    async def until_asked(self, op: str) -> None:
        async with asyncio.timeout(5):
            while op not in self.asked:
                await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        while line := await reader.readline():
            request = decode(line)
            self.asked.append(request["op"])
            answer: dict[str, Any] = {}
            if request["op"] == "describe":
                address = f"unix@{self.folder}/{{instance}}.sock"
                answer = {"ok": asdict(NodeDescription("x86_64", "Linux", {"level": "full"}, True, 10, address))}
            elif request["op"] == "watch":
                answer = {"item": None}
            if answer:
                writer.write(encode({"id": request["id"], **answer}))
        writer.close()


@pytest.fixture
async def node() -> AsyncIterator[Recorder]:
    folder = Path(tempfile.mkdtemp(prefix="nc-"))
    recorder = Recorder(folder / "node.sock")
    await recorder.open()
    yield recorder
    await recorder.close()
    shutil.rmtree(folder)


@pytest.fixture
async def client(node: Recorder) -> AsyncIterator[NodeClient]:
    settings = Settings(str(node._path.parent), str(node._path.parent))
    assert settings.node_socket == node._path
    made = NodeClient(settings)
    yield made
    await made.close()


async def test_a_watcher_has_the_description_already_so_a_wake_takes_one_message(
    node: Recorder, client: NodeClient
) -> None:
    reached = asyncio.Event()
    watching = asyncio.create_task(client.watch(lambda _: None, reached.set))
    await reached.wait()
    node.asked.clear()
    addresses: list[str] = []
    starting = asyncio.create_task(client.start(LAUNCH, addresses.append))
    await node.until_asked("start")
    assert (node.asked, addresses) == (["start"], ["unix@/one/i1.sock"])
    starting.cancel()
    watching.cancel()
    await asyncio.wait({starting, watching})


async def test_a_new_node_process_is_asked_for_its_description_again(node: Recorder, client: NodeClient) -> None:
    assert (await client.describe()).instance_address.startswith("unix@/one/")
    assert (await client.describe()).instance_address.startswith("unix@/one/")
    assert node.asked == ["describe"]
    starting = asyncio.create_task(client.start(LAUNCH, lambda _: None))
    await node.until_asked("start")
    await node.close()
    with pytest.raises(NodeUnavailable):
        await starting
    with pytest.raises(NodeUnavailable, match="cannot be reached"):
        await client.describe()
    node.folder = "/other"
    await node.open()
    assert (await client.describe()).instance_address.startswith("unix@/other/")


class ClosedByUvloop:
    """A writer whose transport uvloop has closed after a failed write, while nothing has told the reader yet."""

    def write(self, data: bytes) -> None:
        raise RuntimeError("unable to perform operation on <UnixTransport closed=True>; the handler is closed")

    def close(self) -> None:
        """It is closed."""


async def test_a_connection_that_a_failed_write_has_closed_is_lost() -> None:
    connection = _NodeConnection(asyncio.StreamReader(), cast(asyncio.StreamWriter, ClosedByUvloop()))
    with pytest.raises(NodeUnavailable):
        await connection.ask("usage")
    await connection.close()
