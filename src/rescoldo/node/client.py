"""The controller's client of the node: implements `Node` over the node's Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rescoldo.model.calls import FailedCall
from rescoldo.model.errors import NodeUnavailable
from rescoldo.model.instance import Launch, LogLine, RunningInstance
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.model.settings import Settings
from rescoldo.node.protocol import Exit, InstanceUsage, NodeDescription, SparePool
from rescoldo.node.wire import MAX_LINE, decode, decode_error, decode_line, encode

_RETRY_PAUSE = 0.1  # seconds between two attempts to reach the node

@dataclass(frozen=True, slots=True)
class _Pending:
    """A request that is under way."""

    answer: asyncio.Future[Any]
    on_item: Callable[[Any], None] | None  # receives the items before the answer


class _NodeConnection:
    """One connection to the node. It carries any number of concurrent requests, answered in any order. When the
    connection is lost, requests under way raise NodeUnavailable: the node may or may not have carried them out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._pending: dict[int, _Pending] = {}
        self._next = 0
        self._description: NodeDescription | None = None
        self._reading = asyncio.create_task(self._read(reader), name="node client")

    @property
    def is_lost(self) -> bool:
        return self._reading.done()

    async def ask(self, op: str, on_item: Callable[[Any], None] | None = None, **arguments: Any) -> Any:
        """Send one request and return its answer; raises the error that the node answers."""
        self._next += 1
        number = self._next
        pending = self._pending[number] = _Pending(asyncio.get_running_loop().create_future(), on_item)
        try:
            # No drain: a request is short, and the caller waits for its answer before it goes on.
            try:
                self._writer.write(encode({"id": number, "op": op, **arguments}))
            except RuntimeError as error:  # uvloop's transport after a failed write, which `_read` has not noticed yet
                raise NodeUnavailable from error
            return await pending.answer
        finally:
            self._pending.pop(number, None)

    async def describe(self) -> NodeDescription:
        """The node's description: requested once, as it stays the same for as long as the node lives."""
        if self._description is None:
            self._description = NodeDescription(**await self.ask("describe"))
        return self._description

    async def close(self) -> None:
        """Close the connection; requests under way raise NodeUnavailable."""
        self._reading.cancel()
        await asyncio.wait({self._reading})

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Hand answers to their requests until the connection is lost."""
        try:
            while line := await reader.readline():
                self._take(decode(line))
        except (OSError, ValueError):
            pass  # lost, or not a node: the requests fail alike
        finally:
            self._writer.close()
            for pending in self._pending.values():
                if not pending.answer.done():
                    pending.answer.set_exception(NodeUnavailable())

    def _take(self, message: dict[str, Any]) -> None:
        pending = self._pending.get(message["id"])
        if pending is None or pending.answer.done():
            return  # the caller was cancelled
        if "item" in message:
            if pending.on_item is not None:
                pending.on_item(message["item"])
        elif "error" in message:
            pending.answer.set_exception(decode_error(message["error"]))
        else:
            pending.answer.set_result(message["ok"])


class NodeClient:
    """Implements `Node`. One connection carries all requests; the client opens it on first use, and again after a
    loss."""

    def __init__(self, settings: Settings) -> None:
        self._address = str(settings.node_socket)
        self._connecting = asyncio.Lock()
        self._connection: _NodeConnection | None = None

    async def describe(self) -> NodeDescription:
        return await (await self._connected()).describe()

    async def start(
        self, launch: Launch, on_address: Callable[[str], None] | None = None, *, successor: bool = False
    ) -> RunningInstance:
        connection = await self._connected()
        # the node would send the address only for a program that binds its own socket
        if on_address is not None and not launch.binds:
            on_address((await connection.describe()).instance_address.format(instance=launch.instance))
            on_address = None
        answer = await connection.ask("start", on_address, launch=launch.to_json(), successor=successor)
        return RunningInstance.from_state(launch, answer)

    async def stop(self, instance: InstanceId) -> None:
        await self._ask("stop", instance=instance)

    async def instances(self) -> list[RunningInstance]:
        return [RunningInstance.from_json(data) for data in await self._ask("instances")]

    async def usage(self, function: FunctionId) -> list[InstanceUsage]:
        return [InstanceUsage(**data) for data in await self._ask("usage", function=function)]

    async def spares(self) -> SparePool:
        return SparePool(**await self._ask("spares"))

    async def explain(self, calls: Sequence[FailedCall], more: Mapping[FunctionId, int]) -> None:
        await self._ask("explain", calls=[asdict(call) for call in calls], more=more)

    async def failures(self, function: FunctionId) -> list[FailedCall]:
        return [FailedCall(**data) for data in await self._ask("failures", function=function)]

    async def forget(self, function: FunctionId) -> None:
        await self._ask("forget", function=function)

    async def logs(
        self, function: FunctionId, *, tail: int | None, since: float | None, follow: bool, instance: str = ""
    ) -> AsyncIterator[LogLine]:
        stream = self._stream("logs", function=function, tail=tail, since=since, follow=follow, instance=instance)
        async with contextlib.aclosing(stream):
            async for lines in stream:
                for data in lines:
                    yield decode_line(function, data)

    async def watch(self, on_exit: Callable[[Exit], None], on_restart: Callable[[], None]) -> None:
        while True:
            with contextlib.suppress(NodeUnavailable):
                async with contextlib.aclosing(self._stream("watch")) as stream:
                    await self.describe()  # in advance, so that no wake waits for it
                    async for data in stream:
                        if data is None:
                            on_restart()
                        else:
                            on_exit(Exit(**data))
            await asyncio.sleep(_RETRY_PAUSE)

    async def close(self) -> None:
        """Close the connection; requests under way raise NodeUnavailable."""
        if self._connection is not None:
            await self._connection.close()

    # -- requests

    async def _ask(self, op: str, **arguments: Any) -> Any:
        return await (await self._connected()).ask(op, **arguments)

    async def _connected(self) -> _NodeConnection:
        async with self._connecting:
            if self._connection is None or self._connection.is_lost:
                self._connection = _NodeConnection(*await self._connect())
            return self._connection

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_unix_connection(self._address, limit=MAX_LINE)
        except OSError as error:
            raise NodeUnavailable(f"the node cannot be reached: {error}") from error

    async def _stream(self, op: str, **arguments: Any) -> AsyncGenerator[Any, None]:
        """The items of a streaming request, over a connection of its own."""
        reader, writer = await self._connect()
        try:
            writer.write(encode({"id": 0, "op": op, **arguments}))
            while line := await reader.readline():
                message = decode(line)
                if "error" in message:
                    raise decode_error(message["error"])
                if "ok" in message:
                    return
                yield message["item"]
            raise NodeUnavailable
        except (OSError, ValueError) as error:
            raise NodeUnavailable(f"the node was lost: {error}") from error
        finally:
            writer.close()
