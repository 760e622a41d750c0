"""The one response that the client of a call gets, whole or streamed."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from rescoldo.runtime.calls.protocol import Client, Host
from rescoldo.runtime.journal import JOURNAL, kind_of, traceback_text
from rescoldo.runtime.results import InvalidResponse, Response, refusal

PROMPT = 0.002  # seconds; a handler that begins later than this after its request arrived has waited


class Answer:
    """Sends one response and drops everything after it. Runs on the loop's thread, except `is_wanted`, `failed` and
    reads of `over`."""

    __slots__ = ("_client", "_doubtful", "_host", "_on_over", "_streamed", "began", "left", "over", "streaming")

    def __init__(self, host: Host, client: Client, on_over: Callable[[], None], *, doubtful: bool) -> None:
        """`on_over` is called once, just before the client gets the last of its response, or when it gets none."""
        self._host = host
        self._client = client
        self._on_over: Callable[[], None] | None = on_over
        self._doubtful = doubtful
        self._streamed = 0  # bytes of a stream so far
        self.began = time.perf_counter()
        self.over = False  # answered, cut or expired: later results are dropped
        self.left = False  # the client has left
        self.streaming = False  # the head of a stream is sent

    def is_wanted(self) -> bool:
        """Whether the client is still there when the handler is about to begin.

        Asking the socket costs a tenth of a call, so this asks only if the client may have left unnoticed: the request
        waited, or the loop was busy elsewhere.
        """
        late = self._doubtful or time.perf_counter() - self.began > PROMPT
        return not (self.over or self.left or (late and self._client.has_left()))

    def close(self) -> None:
        """Mark the call as over: nothing more will be sent."""
        on_over, self._on_over = self._on_over, None  # dropping the reference frees the call and its request
        if on_over is not None:
            self.over = True
            on_over()

    # -- whole

    def send(self, response: Response) -> None:
        """Send `response`, whose body is bytes."""
        if not self.over:
            self.close()
            if not self.left:
                self._client.answer(response, time.perf_counter() - self.began)

    def send_returned(self, response: Response, body: bytes) -> None:
        """Send the handler's response, or 413 if it is too large."""
        most = self._host.launch.max_response
        if most and len(body) > most:
            self._refuse_size(f"a response of {len(body)} bytes", most)
        else:
            self.send(response)

    # -- streamed

    def push(self, response: Response, data: bytes) -> bool:
        """Send one piece of a stream, preceded by `response` once; return whether more is wanted."""
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
        """End the stream `response`, whose source has no more pieces."""
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
        """Return what the loop must do about `error`. Makes the texts here, on the thread and within the call of the
        handler, because the function's own code may produce them."""
        if isinstance(error, InvalidResponse):
            text = "the function returned an invalid response; see its log"
            return partial(self._fail, text, f"rescoldo: {error.message}\n")
        text = f"the function raised {kind_of(error)}; see its log"
        return partial(self._fail, text, traceback_text(error, self._host.root))

    def _fail(self, text: str, log: str) -> None:
        """Tell the client only the kind of failure; write the details to the log."""
        if self.streaming:
            self._cut()
        else:
            self.send(refusal(500, text))
        JOURNAL.say(log)

    def _refuse_size(self, what: str, most: int) -> None:
        """Report an oversized response to the function's log and, if it got nothing yet, to the client."""
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
        """Answer 504, or cut the stream, after the deadline of `limit` seconds. `close` has been called."""
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
