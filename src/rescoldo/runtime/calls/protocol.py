"""Interfaces between a call of the handler, its client and the server around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from rescoldo.model.instance import Launch
from rescoldo.runtime.handlers import Handler
from rescoldo.runtime.leftovers import Jobs
from rescoldo.runtime.results import Response
from rescoldo.runtime.threads import Threads
from rescoldo.runtime.turns import Turns


class Pending(Protocol):
    """A call in flight, as its connection and the server see it."""

    def client_left(self) -> None:
        """React to a lost connection: a stream stops; a handler that has begun runs on."""
        ...

    def give_up(self) -> None:
        """Tell the client, if it got nothing yet, that the process ends now because its loop is blocked."""
        ...


class Client(Protocol):
    """The client of a call. Its methods run on the loop's thread."""

    def answer(self, response: Response, seconds: float) -> None:
        """Send a whole response, whose body is bytes. `seconds` is the time that the handler took."""
        ...

    def begin(self, response: Response, seconds: float) -> bool:
        """Send the head of a stream; return whether its body is wanted (not for HEAD)."""
        ...

    def send(self, data: bytes) -> None:
        """Send a non-empty piece of the stream."""
        ...

    def end(self) -> None:
        """End the stream properly."""
        ...

    def abort(self) -> None:
        """Cut the connection in the middle of a stream."""
        ...

    def answer_at_once(self, response: Response, seconds: float) -> None:
        """Send a whole response past the event loop, as the last act of the process."""
        ...

    def when_writable(self, callback: Callable[[], None]) -> None:
        """Call back once the client has taken most of the sent bytes, or has left; perhaps at once."""
        ...

    def has_left(self) -> bool:
        """Whether the client has closed its connection, whatever is still unread. Safe on any thread."""
        ...


class Host(Protocol):
    """What a call needs from the server around it."""

    launch: Launch
    loop: asyncio.AbstractEventLoop
    handler: Handler
    threads: Threads
    root: str
    turns: Turns
    jobs: Jobs

    def call_over(self, call: Pending) -> None:
        """Count the call no longer as in flight; it is done with its client."""
        ...

    def retire(self) -> None:
        """End this process once the other calls are answered, because a handler hangs."""
        ...


class Stage(Protocol):
    """Where a call's handler, or its returned stream, runs or waits to run: on the loop or in a thread.

    A call moves to another stage when an async handler returns a plain generator, or a plain function returns an
    awaitable. The methods run on the loop's thread.
    """

    def start(self) -> None:
        """Wait for a turn or a thread; perhaps begin at once."""
        ...

    def withdraw(self) -> bool:
        """Keep the handler from beginning. Returns False if it has begun, or a thread is about to check whether it
        may."""
        ...

    def release(self) -> None:
        """Free what waits: the call is over, so nothing needs to begin or to wait for the client."""
        ...

    def is_hung(self) -> bool:
        """Whether the function's own code occupies a thread, which cannot be cancelled."""
        ...

    def cancel(self) -> asyncio.Task[None] | None:
        """Cancel and return the task on the loop; None if there is none."""
        ...
