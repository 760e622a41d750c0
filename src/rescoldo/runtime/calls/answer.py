"""The one answer that the client of a call gets, whole or streamed."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from rescoldo.runtime.calls.protocol import Client, Host
from rescoldo.runtime.journal import JOURNAL, kind_of, traceback_text
from rescoldo.runtime.results import InvalidResponse, Response, refusal

PROMPT = 0.002  # seconds; a handler that begins later than this after its request came has waited


class Answer:
    """Sends one answer and drops whatever comes after it. Belongs to the loop's thread, but for `is_wanted`, `failed`
    and reading `over`."""

    __slots__ = ("_client", "_doubtful", "_host", "_on_over", "_streamed", "began", "left", "over", "streaming")

    def __init__(self, host: Host, client: Client, on_over: Callable[[], None], *, doubtful: bool) -> None:
        """`on_over` is called once, just before the client gets the last of its answer, or when it gets none."""
        self._host = host
        self._client = client
        self._on_over: Callable[[], None] | None = on_over
        self._doubtful = doubtful
        self._streamed = 0  # bytes of a stream so far
        self.began = time.perf_counter()
        self.over = False  # answered, cut or expired: whatever still comes is dropped
        self.left = False  # the client is gone
        self.streaming = False  # the head of a stream is out

    def is_wanted(self) -> bool:
        """Whether the client is there, now that the handler could begin. The socket is asked only where it may know
        more than this does, since that costs a tenth of a call: something waited, or the loop was busy elsewhere."""
        late = self._doubtful or time.perf_counter() - self.began > PROMPT
        return not (self.over or self.left or (late and self._client.has_left()))

    def close(self) -> None:
        """There is nothing more to send."""
        on_over, self._on_over = self._on_over, None  # a call is freed with its last reference, its request too
        if on_over is not None:
            self.over = True
            on_over()

    # -- whole

    def send(self, response: Response) -> None:
        """The answer is `response`, whose body is bytes."""
        if not self.over:
            self.close()
            if not self.left:
                self._client.answer(response, time.perf_counter() - self.began)

    def send_returned(self, response: Response, body: bytes) -> None:
        """The answer is what the handler returned, unless it is too large."""
        most = self._host.launch.max_response
        if most and len(body) > most:
            self._refuse_size(f"a response of {len(body)} bytes", most)
        else:
            self.send(response)

    # -- streamed

    def push(self, response: Response, data: bytes) -> bool:
        """Send one piece of a stream, `response` first; return whether more is wanted."""
        if self.over or self.left:
            self.close()
            return False
        self._streamed += len(data)
        most = self._host.launch.max_response
        if most and self._streamed > most:
            self._refuse_size("a streamed response", most)
            return False
        if not self.streaming:
            self.streaming = True
            if not self._client.begin(response, time.perf_counter() - self.began):
                self._end()
                return False
        self._client.send(data)
        return True

    def when_writable(self, callback: Callable[[], None]) -> None:
        """See Client."""
        self._client.when_writable(callback)

    def exhausted(self, response: Response) -> None:
        """The source of the stream `response` has no more pieces."""
        if self.streaming:
            self._end()
        else:
            self.send(Response(response.status, response.headers, b""))

    def _end(self) -> None:
        if not self.over:
            self.close()
            self._client.end()

    # -- what went wrong

    def failed(self, error: BaseException) -> Callable[[], None]:
        """What the loop shall do about `error`. The texts are made here, in the thread where the handler ran and as a
        part of its call, since code of the function's may make them."""
        if isinstance(error, InvalidResponse):
            text = "the function returned an invalid response; see its log"
            return partial(self._fail, text, f"rescoldo: {error.message}\n")
        text = f"the function raised {kind_of(error)}; see its log"
        return partial(self._fail, text, traceback_text(error, self._host.root))

    def _fail(self, text: str, log: str) -> None:
        """Tell the client no more than the kind of what went wrong, and the log all of it."""
        if self.streaming:
            self._cut()
        else:
            self.send(refusal(500, text))
        JOURNAL.say(log)

    def _refuse_size(self, what: str, most: int) -> None:
        """Tell the function's log and, where it was told nothing yet, the client."""
        if self.over:
            return
        limit = f"the {most} bytes allowed (rescoldo.dev/max-response)"
        if self.streaming:
            self._cut()
            JOURNAL.say(f"rescoldo: {what} was cut at {limit}\n")
        else:
            self.send(refusal(413, f"the function's response is larger than {limit}"))
            JOURNAL.say(f"rescoldo: {what} is larger than {limit}\n")

    def _cut(self) -> None:
        if not self.over:
            self.close()
            self._client.abort()

    def expire(self, limit: float) -> None:
        """The deadline of `limit` seconds has passed; `close` has been called."""
        if self.left:
            return
        if self.streaming:
            self._client.abort()
        else:
            late = refusal(504, f"the function did not answer within {limit:g} s")
            self._client.answer(late, time.perf_counter() - self.began)

    def give_up(self) -> None:
        """See Pending."""
        if not (self.over or self.streaming or self.left):
            late = refusal(504, "the function did not answer in time: it blocked its event loop")
            self._client.answer_at_once(late, time.perf_counter() - self.began)
