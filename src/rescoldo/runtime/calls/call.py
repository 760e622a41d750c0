"""One request on its way through the handler: on the loop or in a thread, with its deadline.

Guarantees:
- the client gets exactly one response (answer.py): the handler's, 500 if the handler raises or returns an invalid
  response, 504 at the deadline, 413 if the response exceeds launch.max_response; after the first bytes of a stream a
  failure can only cut the connection;
- an async handler past its deadline is cancelled; a thread cannot be cancelled, so the instance retires if one hangs,
  or if a cancelled handler leaves a process or a thread behind;
- at most launch.concurrency async handlers run at once, including those whose client has left (stages.py);
- the handler is not called for a client that left before it began; a client that leaves later stops only its stream,
  not the handler (a POST is done exactly once).
"""

from __future__ import annotations

import asyncio

from rescoldo.runtime.calls.answer import Answer
from rescoldo.runtime.calls.protocol import Client, Host, Stage
from rescoldo.runtime.events import Request
from rescoldo.runtime.journal import JOURNAL
from rescoldo.runtime.leftovers import has_children_since

CANCEL_PATIENCE = 1.0  # seconds from the cancellation of an async handler until it counts as hung


class Call:
    """Moves one call from stage to stage until it is answered or its deadline passes. Implements Pending."""

    __slots__ = ("_stage", "_timer", "answer", "host", "request")

    def __init__(self, host: Host, client: Client, request: Request, limit: float, *, doubtful: bool) -> None:
        """`limit` is the deadline in seconds from now, 0 for none. `doubtful`: the client may have left unnoticed.
        Call `enter` next."""
        self.host = host
        self.request = request
        self.answer = Answer(host, client, self._over, doubtful=doubtful)
        self._stage: Stage | None = None  # None before the first stage, and once the call is over
        self._timer = host.loop.call_later(limit, self._expire, limit) if limit else None

    def enter(self, stage: Stage) -> None:
        """Continue at `stage`, even if the call is over: the stage checks what is left to do."""
        if not self.answer.over:
            self._stage = stage
        stage.start()

    def client_left(self) -> None:
        """See Pending."""
        self.answer.left = True
        if self._stage is not None and (self.answer.streaming or self._stage.withdraw()):
            self.answer.close()

    def give_up(self) -> None:
        """See Pending."""
        self.answer.give_up()

    def _over(self) -> None:
        """End the call: stop its timer, release its stage, and count it no longer as in flight."""
        if self._timer is not None:
            self._timer.cancel()
        stage, self._stage = self._stage, None
        if stage is not None:
            stage.release()
        self.host.call_over(self)

    def _expire(self, limit: float) -> None:
        stage = self._stage
        assert stage is not None  # `_over` cancels the timer
        self.answer.close()
        stage.withdraw()
        if stage.is_hung():
            self.host.retire()  # before the response, which then says "Connection: close"
        self.answer.expire(limit)
        JOURNAL.say(f"rescoldo: a call was ended at its deadline of {limit:g} s\n")
        if (task := stage.cancel()) is not None:
            self.host.loop.call_later(CANCEL_PATIENCE, self._check_cancelled, task)

    def _check_cancelled(self, task: asyncio.Task[None]) -> None:
        if not task.done():
            JOURNAL.say("rescoldo: an async handler ignores its cancellation\n")
        elif self.host.jobs.has_any_since(self.answer.began):
            JOURNAL.say("rescoldo: a call that was ended at its deadline left a busy thread; the instance ends\n")
        elif has_children_since(self.answer.began):
            JOURNAL.say("rescoldo: a call that was ended at its deadline left a process; the instance ends\n")
        else:
            return
        self.host.retire()
