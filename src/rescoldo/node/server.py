"""Answers the node's clients on its Unix socket; wire.py has the format."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import asdict
from typing import Any

from rescoldo.model.calls import FailedCall
from rescoldo.model.errors import InvalidInput, RescoldoError
from rescoldo.model.instance import Launch
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.node.instances.usage import usage_of
from rescoldo.node.parts import NodeParts
from rescoldo.node.wire import MAX_LINE, decode, encode, encode_error, encode_line

_LOG = logging.getLogger(__name__)

Request = dict[str, Any]


class Server:
    """Serves any number of connections, each with any number of concurrent requests."""

    def __init__(self, parts: NodeParts) -> None:
        self._parts = parts
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._answers: dict[str, Callable[[Request], Awaitable[Any]]] = {
            "describe": self._describe,
            "stop": self._stop,
            "instances": self._instances,
            "usage": self._usage,
            "explain": self._explain,
            "failures": self._failures,
            "forget": self._forget,
            "spares": self._spares,
            "ping": self._ping,
        }
        self._streams: dict[str, Callable[[Request], AsyncGenerator[Any, None]]] = {
            "logs": self._log_lines,
            "watch": self._lost,
        }

    async def open(self, listener: socket.socket) -> None:
        """Begin to serve on `listener`. Its path stays when the node ends: it belongs to the supervisor."""
        keep: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        self._server = await asyncio.start_unix_server(self._connected, sock=listener, limit=MAX_LINE, **keep)

    async def close(self) -> None:
        """Accept no more connections and end the present ones."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        requests: set[asyncio.Task[None]] = set()
        try:
            while line := await reader.readline():
                request = asyncio.create_task(self._handle(decode(line), writer), name="node request")
                requests.add(request)
                request.add_done_callback(requests.discard)
        except (ConnectionError, ValueError) as error:
            _LOG.warning("closing a client's connection: %s", error)
        except asyncio.CancelledError:
            pass  # the node ends; asyncio would report a cancelled connection as an error
        finally:
            for request in requests:
                request.cancel()
            self._connections.discard(task)
            writer.close()

    async def _handle(self, request: Request, writer: asyncio.StreamWriter) -> None:
        number = request.get("id")
        try:
            answer = await self._answer(request, writer)
            message = {"id": number, "ok": answer}
        except RescoldoError as error:
            message = {"id": number, "error": encode_error(error)}
        except ConnectionError:
            return
        except Exception as error:
            _LOG.exception("request %r failed", request.get("op"))
            message = {"id": number, "error": encode_error(RescoldoError(f"the node failed: {error!r}"))}
        with contextlib.suppress(ConnectionError):
            writer.write(encode(message))
            await writer.drain()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> Any:
        op = request.get("op", "")
        if op == "start":
            return await self._start(request, writer)
        if op in self._answers:
            return await self._answers[op](request)
        if op not in self._streams:
            raise InvalidInput(f"the node has no operation {op!r}")
        stream = self._streams[op](request)
        async with contextlib.aclosing(stream):
            async for item in stream:
                writer.write(encode({"id": request["id"], "item": item}))
                await writer.drain()
        return None

    async def _start(self, request: Request, writer: asyncio.StreamWriter) -> Any:
        def tell(address: str) -> None:
            writer.write(encode({"id": request["id"], "item": address}))

        launch = Launch.from_json(request["launch"])
        return (await self._parts.starts.start(launch, tell, successor=request["successor"])).to_state()

    async def _describe(self, _: Request) -> Any:
        return asdict(self._parts.description)

    async def _stop(self, request: Request) -> None:
        await self._parts.stops.stop(InstanceId(request["instance"]))

    async def _instances(self, request: Request) -> Any:
        return [running.to_json() for running in self._parts.roster.running()]

    async def _usage(self, request: Request) -> Any:
        running = self._parts.roster.running()
        of_function = [one for one in running if one.launch.function == request["function"]]
        return [asdict(usage) for usage in await usage_of(of_function, own_uids=self._parts.privileged)]

    async def _explain(self, request: Request) -> None:
        self._parts.failures.explain([FailedCall(**data) for data in request["calls"]], request["more"])

    async def _failures(self, request: Request) -> Any:
        return [asdict(call) for call in self._parts.failures.recent(FunctionId(request["function"]))]

    async def _forget(self, request: Request) -> None:
        function = FunctionId(request["function"])
        self._parts.roster.mute(function)
        self._parts.logs.forget(function)
        self._parts.failures.forget(function)

    async def _spares(self, _: Request) -> Any:
        return asdict(self._parts.zygotes.pool)

    async def _ping(self, _: Request) -> None:
        """Answer the supervisor's liveness check: any answer means that the node lives."""

    async def _log_lines(self, request: Request) -> AsyncGenerator[Any, None]:
        batches = self._parts.logs.read(
            FunctionId(request["function"]),
            tail=request["tail"],
            since=request["since"],
            follow=request["follow"],
            instance=request["instance"],
        )
        async with contextlib.aclosing(batches):
            async for lines in batches:
                yield [encode_line(line) for line in lines]

    async def _lost(self, request: Request) -> AsyncGenerator[Any, None]:
        yield None  # the watch has begun: the client learns of every loss from now on
        async with contextlib.aclosing(self._parts.exits.watch()) as lost:
            async for one in lost:
                yield None if one is None else asdict(one)
