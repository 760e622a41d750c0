"""Streams that a handler returned: sends them to the client piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

from rescoldo.runtime.calls.call import Call
from rescoldo.runtime.calls.stages import After, LoopStage, ThreadStage
from rescoldo.runtime.results import Response, encode_chunk


async def stream(call: Call, response: Response, chunks: AsyncIterator[Any]) -> None:
    """Send `chunks`, each once the client has room for it. Raises what they raise."""
    try:
        async for chunk in chunks:
            data = encode_chunk(chunk)
            if data and not call.answer.push(response, data):
                break
            if data:
                writable = call.host.loop.create_future()
                call.answer.when_writable(partial(_resolve, writable))
                await writable
        call.answer.exhausted(response)
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class StreamOnLoop(LoopStage):
    """Sends the async stream that a plain function returned."""

    __slots__ = ("_chunks", "_response")

    def __init__(self, call: Call, response: Response, chunks: AsyncIterator[Any]) -> None:
        super().__init__(call, begun=True)
        self._response = response
        self._chunks = chunks

    async def _run(self) -> None:
        try:
            await stream(self._call, self._response, self._chunks)
        except BaseException as error:
            self._fail(error)


class StreamInThread(ThreadStage):
    """Sends the plain stream that an async function returned."""

    __slots__ = ("_chunks", "_response")

    def __init__(self, call: Call, response: Response, chunks: Iterator[Any]) -> None:
        super().__init__(call)
        self._response = response
        self._chunks = chunks

    def _run(self) -> After:
        self._started = True
        after = self._in_thread_stream(self._response, self._chunks)
        self._started = False
        return after
