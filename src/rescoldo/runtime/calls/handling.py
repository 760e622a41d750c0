"""Runs the handler of a call: an async one on the loop, a plain one in a thread."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from types import CoroutineType
from typing import Any

from rescoldo.runtime.calls.call import Call
from rescoldo.runtime.calls.stages import After, LoopStage, ThreadStage
from rescoldo.runtime.calls.streams import StreamInThread, StreamOnLoop, stream


class HandlerOnLoop(LoopStage):
    """Runs an async handler."""

    __slots__ = ()

    async def _run(self) -> None:
        call = self._call
        if not call.answer.is_wanted():
            call.answer.close()
            return
        self._begun = True
        try:
            result = call.host.handler.call(call.request)
            await _finish(call, await result if hasattr(result, "__await__") else result)
        except BaseException as error:
            self._fail(error)


class ResultOnLoop(LoopStage):
    """Awaits the awaitable that a plain function returned, as decorated async functions do. A coroutine has not begun
    yet."""

    __slots__ = ("_result", "_unstarted")

    def __init__(self, call: Call, result: Any) -> None:
        unstarted = isinstance(result, CoroutineType)
        super().__init__(call, begun=not unstarted)
        self._result = result
        self._unstarted = unstarted

    async def _run(self) -> None:
        call = self._call
        if not self._begun and not call.answer.is_wanted():
            call.answer.close()
            return
        self._begun = True
        try:
            await _finish(call, await self._result)
        except BaseException as error:
            self._fail(error)

    def release(self) -> None:
        super().release()
        if not self._begun:
            self._result.close()


async def _finish(call: Call, result: object) -> None:
    """Answer with the result of a handler on the loop. Raises InvalidResponse, and exceptions of a stream."""
    response = call.host.handler.respond(result)
    if isinstance(response.body, bytes):
        call.answer.send_returned(response, response.body)
    elif isinstance(response.body, AsyncIterator):
        await stream(call, response, response.body)
    else:
        call.enter(StreamInThread(call, response, response.body))


class HandlerInThread(ThreadStage):
    """Runs a plain handler, and the plain stream that it returns."""

    __slots__ = ()

    def withdraw(self) -> bool:
        return self._call.host.threads.withdraw(self._run)

    def _run(self) -> After:
        answer = self._call.answer
        if not answer.is_wanted():
            return answer.close
        self._started = True  # set before the check of `over`; `_expire` sets `over` before it reads this
        if answer.over:
            return answer.close
        after = self._in_thread_call()
        self._started = False
        return after

    def _in_thread_call(self) -> After:
        call = self._call
        try:
            result = call.host.handler.call(call.request)
            if hasattr(result, "__await__"):
                return partial(call.enter, ResultOnLoop(call, result))
            response = call.host.handler.respond(result)
        except BaseException as error:
            return call.answer.failed(error)
        if isinstance(response.body, bytes):
            return partial(call.answer.send_returned, response, response.body)
        if isinstance(response.body, AsyncIterator):
            return partial(call.enter, StreamOnLoop(call, response, response.body))
        return self._in_thread_stream(response, response.body)
