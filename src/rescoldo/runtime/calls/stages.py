"""Stages of a call: the function's code runs as a task of the loop, or in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from rescoldo.runtime.calls.call import Call
from rescoldo.runtime.results import Response, encode_chunk

After = Callable[[], None]  # the loop's next step


class LoopStage:
    """Waits for a turn, then runs `_run` as a task. A call that is over by then gets neither."""

    __slots__ = ("_begun", "_call", "_task")

    def __init__(self, call: Call, *, begun: bool = False) -> None:
        """`begun`: the function's code has already begun elsewhere, so it runs to its end."""
        self._call = call
        self._begun = begun
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """See Stage."""
        self._call.host.turns.take(self._take_turn)

    def _take_turn(self) -> bool:
        """Use the turn; return whether the call still needs it."""
        if self._call.answer.over:
            return False
        host = self._call.host
        self._task = task = host.loop.create_task(self._run())
        task.add_done_callback(self._give_turn_back)
        return True

    def _give_turn_back(self, _: asyncio.Task[None]) -> None:
        self._call.host.turns.give_back()

    async def _run(self) -> None:
        """Raises nothing: a SystemExit would end the loop and every other call."""
        raise NotImplementedError

    def _fail(self, error: BaseException) -> None:
        if not (self._call.answer.over and isinstance(error, asyncio.CancelledError)):  # else our own cancel
            self._call.answer.failed(error)()

    def withdraw(self) -> bool:
        """See Stage."""
        return not self._begun

    def release(self) -> None:
        """See Stage."""
        if self._task is None:
            self._call.host.turns.withdraw(self._take_turn)

    def is_hung(self) -> bool:
        """See Stage."""
        return False

    def cancel(self) -> asyncio.Task[None] | None:
        """See Stage."""
        if self._task is not None:
            self._task.cancel()
        return self._task


class ThreadStage:
    """Runs `_run` in a thread. `_run` and the methods named `_in_thread...` run on that thread."""

    __slots__ = ("_call", "_room", "_started", "_waiting")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._started = False  # the thread is running the function's code, or about to
        self._waiting = False  # the thread waits for the client, not in the function's code
        self._room: threading.Event | None = None  # set when the client has room for another piece

    def start(self) -> None:
        """See Stage."""
        self._call.host.threads.submit(self._run)

    def _run(self) -> After:
        """Raises nothing; see Threads."""
        raise NotImplementedError

    def withdraw(self) -> bool:
        """See Stage."""
        return False

    def release(self) -> None:
        """See Stage."""
        if self._room is not None:
            self._room.set()

    def is_hung(self) -> bool:
        """See Stage."""
        return self._started and not self._waiting

    def cancel(self) -> asyncio.Task[None] | None:
        """See Stage."""
        return None

    def _in_thread_stream(self, response: Response, chunks: Iterator[Any]) -> After:
        """Iterate in one thread from first to last, because generators may hold objects that belong to a thread.

        A stream that waited for a thread past its deadline never begins. This sets `_started` before it reads `over`;
        `_expire` sets `over` before it reads `_started`. So `_expire` cannot miss a stream that begins.
        """
        try:
            if not self._call.answer.over:
                self._in_thread_iterate(response, chunks)
            return partial(self._call.answer.exhausted, response)
        except BaseException as error:
            return self._call.answer.failed(error)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                with suppress(BaseException):  # a SystemExit would end the thread, and the call would never end
                    close()

    def _in_thread_iterate(self, response: Response, chunks: Iterator[Any]) -> None:
        """Send one piece at a time; take the next once the client has room for it."""
        self._room = room = threading.Event()
        for chunk in chunks:
            data = encode_chunk(chunk)
            if data:
                self._waiting = True
                self._call.host.threads.post(partial(self._push, response, data, room.set))
                room.wait()
                room.clear()
            if self._call.answer.over:
                return  # `_waiting` stays set: `_expire` may be about to read it
            self._waiting = False

    def _push(self, response: Response, data: bytes, go: Callable[[], None]) -> None:
        if self._call.answer.push(response, data):
            self._call.answer.when_writable(go)
        else:
            go()
