"""One request on its way through the handler: on the loop or in a thread, with its deadline.

Guarantees:
- the client gets exactly one answer: the handler's, 500 when it raises or returns nonsense, 504 at the
  deadline, 413 when its answer is over launch.max_response; after the first bytes of a stream a failure can only cut
  the connection;
- an async handler past its deadline is cancelled; a thread cannot be, so the instance retires when one hangs, and
  when a cancelled handler leaves a process or a thread behind;
- no more async handlers run at once than launch.concurrency, those included whose client has left;
- a client that leaves before its handler has begun is not called for; one that leaves later does not stop the handler
  (a POST is done exactly once), only its stream.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from functools import partial
from types import CoroutineType
from typing import Any, Protocol

from rescoldo.model.instance import Launch
from rescoldo.runtime.events import Request
from rescoldo.runtime.handlers import Handler
from rescoldo.runtime.journal import JOURNAL, kind_of, traceback_text
from rescoldo.runtime.leftovers import Jobs, has_children_since
from rescoldo.runtime.results import Nonsense, Response, encode_chunk, refusal
from rescoldo.runtime.threads import Threads
from rescoldo.runtime.turns import Turns

PROMPT = 0.002  # seconds; a handler that begins later than this after its request came has waited
CANCEL_PATIENCE = 1.0  # seconds a cancelled async handler has to end before it counts as hung


class Client(Protocol):
    """The connection that a call answers; its methods belong to the loop's thread."""

    def answer(self, response: Response, seconds: float) -> None:
        """Send a whole response; `seconds` is what the handler took."""
        ...

    def begin(self, response: Response, seconds: float) -> bool:
        """Send the head of a stream; return whether its body is wanted (not for HEAD)."""
        ...

    def send(self, data: bytes) -> None:
        """Send a piece of the stream, not empty."""
        ...

    def end(self) -> None:
        """End the stream properly."""
        ...

    def abort(self) -> None:
        """Cut the connection in the middle of a stream."""
        ...

    def answer_at_once(self, response: Response, seconds: float) -> None:
        """Send a whole response past the event loop, as the process's last deed."""
        ...

    def when_writable(self, callback: Callable[[], None]) -> None:
        """Call back once the client has taken most of what was sent, or has left; perhaps at once."""
        ...

    def has_left(self) -> bool:
        """Whether the client has closed its connection, whatever is still unread; for any thread."""
        ...


class Host(Protocol):
    """What a call needs of the server around it."""

    launch: Launch
    loop: asyncio.AbstractEventLoop
    handler: Handler
    threads: Threads
    root: str
    turns: Turns
    jobs: Jobs

    def call_over(self, call: Call) -> None:
        """The call needs its client no more and no longer counts as in flight."""
        ...

    def retire(self) -> None:
        """A handler hangs for ever: end this process as soon as the others are answered."""
        ...


class Call:
    """One call of the handler. Everything runs on the loop but the methods named `_in_thread...`."""

    __slots__ = (
        "_began", "_begun", "_client", "_doubtful", "_host", "_left", "_over", "_request", "_room", "_sent", "_started",
        "_streamed", "_task", "_timer", "_turn", "_unstarted", "_waiting",
    )  # fmt: skip

    def __init__(self, host: Host, client: Client, request: Request, limit: float, *, doubtful: bool) -> None:
        """Start the call; `limit` is its deadline in seconds from now, 0 for none. `doubtful`: the client may have left
        already, unnoticed."""
        self._host = host
        self._client = client
        self._request = request
        self._began = time.perf_counter()
        self._doubtful = doubtful
        self._over = False  # answered, cut or expired: whatever still comes is dropped
        self._left = False  # the client is gone
        self._begun = False  # the handler has, on the loop: from here on it is run to its end
        self._sent = False  # the head of a stream is out
        self._streamed = 0  # bytes of a stream so far
        self._started = False  # a thread has begun it
        self._waiting = False  # a thread waits for the client, not in the handler
        self._room: threading.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._turn: Callable[[], bool] | None = None  # waits in host.turns
        self._unstarted: Coroutine[Any, Any, Any] | None = None  # what a plain function returned
        self._timer = host.loop.call_later(limit, self._expire, limit) if limit else None
        if host.handler.on_loop:
            self._take_turn(self._on_loop)
        else:
            host.threads.submit(self._in_thread)

    def client_left(self) -> None:
        """The connection is lost: a stream stops; a handler that has begun runs on."""
        self._left = True
        if self._sent or self._never_begins():
            self._close()

    def _never_begins(self) -> bool:
        """Keep the handler from beginning; return False if it has begun, or a thread is about to look if it may."""
        if self._host.handler.on_loop or self._unstarted is not None:
            return not self._begun
        return self._host.threads.withdraw(self._in_thread)

    def _is_wanted(self) -> bool:
        """Whether the client is there, now that the handler could begin. The socket is asked only where it may know
        more than this does, since that costs a tenth of a call: something waited, or the loop was busy elsewhere."""
        late = self._doubtful or time.perf_counter() - self._began > PROMPT
        return not (self._over or self._left or (late and self._client.has_left()))

    def give_up(self) -> None:
        """The process ends now, for its loop stands still: tell the client, if it was told nothing yet."""
        if not self._over and not self._sent and not self._left:
            late = refusal(504, "the function did not answer in time: it blocked its event loop")
            self._client.answer_at_once(late, time.perf_counter() - self._began)

    # -- ends

    def _close(self) -> None:
        """The call is over for its client and for the count of calls in flight."""
        if not self._over:
            self._over = True
            if self._timer is not None:
                self._timer.cancel()
            if self._room is not None:
                self._room.set()
            if self._turn is not None:
                self._host.turns.withdraw(self._turn)
                self._turn = None
            if self._unstarted is not None:
                self._unstarted.close()
                self._unstarted = None
            self._host.call_over(self)

    def _answer(self, response: Response) -> None:
        if not self._over:
            self._close()
            if not self._left:
                self._client.answer(response, time.perf_counter() - self._began)

    def _answer_whole(self, response: Response, body: bytes) -> None:
        """Answer what the handler returned, unless it is too large."""
        most = self._host.launch.max_response
        if most and len(body) > most:
            self._refuse_size(f"an answer of {len(body)} bytes", most)
        else:
            self._answer(response)

    def _refuse_size(self, what: str, most: int) -> None:
        """Tell the function's log and, where it was told nothing yet, the client."""
        if self._over:
            return
        limit = f"the {most} bytes allowed (rescoldo.dev/max-response)"
        if self._sent:
            self._close()
            self._client.abort()
            JOURNAL.say(f"rescoldo: {what} was cut at {limit}\n")
        else:
            self._answer(refusal(413, f"the function's answer is larger than {limit}"))
            JOURNAL.say(f"rescoldo: {what} is larger than {limit}\n")

    def _end(self) -> None:
        if not self._over:
            self._close()
            self._client.end()

    def _failed(self, error: BaseException) -> Callable[[], None]:
        """What the loop shall do about `error`. The texts are made here, in the thread where the handler ran and as a
        part of its call, since code of the function's may make them."""
        if isinstance(error, Nonsense):
            return partial(self._fail, "the function returned nonsense; see its log", f"rescoldo: {error.message}\n")
        text = f"the function raised {kind_of(error)}; see its log"
        return partial(self._fail, text, traceback_text(error, self._host.root))

    def _fail(self, text: str, log: str) -> None:
        """Tell the client no more than the kind of what went wrong, and the log all of it."""
        if not self._sent:
            self._answer(refusal(500, text))
        elif not self._over:
            self._close()
            self._client.abort()
        JOURNAL.say(log)

    def _fail_on_loop(self, error: BaseException) -> None:
        if not (self._over and isinstance(error, asyncio.CancelledError)):  # as we asked
            self._failed(error)()

    def _expire(self, limit: float) -> None:
        self._close()
        self._never_begins()
        if self._task is None and self._started and not self._waiting:
            self._host.retire()  # before the answer, so that it says "Connection: close"
        if self._left:
            pass
        elif self._sent:
            self._client.abort()
        else:
            late = refusal(504, f"the function did not answer within {limit:g} s")
            self._client.answer(late, time.perf_counter() - self._began)
        JOURNAL.say(f"rescoldo: a call was ended at its deadline of {limit:g} s\n")
        if self._task is not None:
            self._task.cancel()
            self._host.loop.call_later(CANCEL_PATIENCE, self._check_cancelled)

    def _check_cancelled(self) -> None:
        if self._task is not None and not self._task.done():
            JOURNAL.say("rescoldo: an async handler ignores its cancellation\n")
        elif self._host.jobs.has_any_since(self._began):
            JOURNAL.say("rescoldo: a call that was ended at its deadline left a busy thread; the instance ends\n")
        elif has_children_since(self._began):
            JOURNAL.say("rescoldo: a call that was ended at its deadline left a process; the instance ends\n")
        else:
            return
        self._host.retire()

    # -- on the loop

    async def _on_loop(self) -> None:
        if not self._is_wanted():
            self._close()
            return
        self._begun = True
        try:
            result = self._host.handler.call(self._request)
            await self._finish(await result if hasattr(result, "__await__") else result)
        except BaseException as error:  # a SystemExit would end the loop and every other call
            self._fail_on_loop(error)

    def _await_later(self, result: Any) -> None:
        """A plain function returned an awaitable, as decorated async functions do. Nothing of a coroutine has run."""
        if isinstance(result, CoroutineType):
            self._unstarted = result
        self._take_turn(partial(self._await, result))

    async def _await(self, result: Any) -> None:
        if self._unstarted is not None and not self._is_wanted():
            self._close()
            return
        self._begun, self._unstarted = True, None
        try:
            await self._finish(await result)
        except BaseException as error:
            self._fail_on_loop(error)

    async def _finish(self, result: object) -> None:
        response = self._host.handler.respond(result)
        if isinstance(response.body, bytes):
            self._answer_whole(response, response.body)
        elif isinstance(response.body, AsyncIterator):
            await self._stream(response, response.body)
        else:
            self._task = None  # from here on a thread may hang, not this task
            self._host.threads.submit(partial(self._in_thread_stream, response, response.body))

    async def _stream(self, response: Response, chunks: AsyncIterator[Any]) -> None:
        try:
            async for chunk in chunks:
                data = encode_chunk(chunk)
                if data and not self._push(response, data):
                    break
                if data:
                    writable = self._host.loop.create_future()
                    self._client.when_writable(partial(_resolve, writable))
                    await writable
            self._ended(response)
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    def _push(self, response: Response, data: bytes) -> bool:
        """Send one piece; return whether more is wanted."""
        if self._over or self._left:
            self._close()
            return False
        self._streamed += len(data)
        most = self._host.launch.max_response
        if most and self._streamed > most:
            self._refuse_size("a streamed answer", most)
            return False
        if not self._sent:
            self._sent = True
            if not self._client.begin(response, time.perf_counter() - self._began):
                self._end()
                return False
        self._client.send(data)
        return True

    def _ended(self, response: Response) -> None:
        """The stream's source is exhausted."""
        if self._sent:
            self._end()
        else:
            self._answer(Response(response.status, response.headers, b""))

    # -- in a thread

    def _in_thread(self) -> Callable[[], None]:
        if not self._is_wanted():
            return self._close
        self._started = True  # before the look at _over: _expire sets that first, then looks at this
        if self._over:
            return self._close
        outcome = self._in_thread_call()
        self._started = False
        return outcome

    def _in_thread_call(self) -> Callable[[], None]:
        """Call the handler; return what the loop shall do next."""
        handler = self._host.handler
        try:
            result = handler.call(self._request)
            if hasattr(result, "__await__"):
                return partial(self._await_later, result)
            response = handler.respond(result)
        except BaseException as error:
            return self._failed(error)
        if isinstance(response.body, bytes):
            return partial(self._answer_whole, response, response.body)
        if isinstance(response.body, AsyncIterator):
            stream = partial(self._stream_to_end, response, response.body)
            return partial(self._take_turn, stream)
        return self._in_thread_iterate(response, response.body)

    def _take_turn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do `work` on the loop, at once if there is a turn."""
        self._turn = turn = partial(self._start_task, work)
        self._host.turns.take(turn)

    def _start_task(self, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Its turn has come; return whether it takes it."""
        self._turn = None
        if self._over:
            return False
        self._task = self._host.loop.create_task(work())
        self._task.add_done_callback(self._give_back)
        return True

    def _give_back(self, task: asyncio.Task[None]) -> None:
        self._host.turns.give_back()

    async def _stream_to_end(self, response: Response, chunks: AsyncIterator[Any]) -> None:
        try:
            await self._stream(response, chunks)
        except BaseException as error:
            self._fail_on_loop(error)

    def _in_thread_stream(self, response: Response, chunks: Iterator[Any]) -> Callable[[], None]:
        self._started = True
        outcome = self._in_thread_iterate(response, chunks)
        self._started = False
        return outcome

    def _in_thread_iterate(self, response: Response, chunks: Iterator[Any]) -> Callable[[], None]:
        """Iterate in one thread from first to last: generators hold things that belong to a thread.

        One piece is on its way at a time; the next is asked for when the client has room for it.
        """
        self._room = room = threading.Event()
        try:
            for chunk in chunks:
                data = encode_chunk(chunk)
                if data:
                    self._waiting = True
                    self._host.threads.post(partial(self._push_from_thread, response, data, room.set))
                    room.wait()
                    room.clear()
                    self._waiting = False
                if self._over:
                    break
            return partial(self._ended, response)
        except BaseException as error:
            return self._failed(error)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                with suppress(BaseException):  # a SystemExit would end the thread, and the call never
                    close()

    def _push_from_thread(self, response: Response, data: bytes, go: Callable[[], None]) -> None:
        if self._push(response, data):
            self._client.when_writable(go)
        else:
            go()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
