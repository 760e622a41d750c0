"""What a call of the handler, its client and the server around it know of each other."""

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
        """The connection is lost: a stream stops; a handler that has begun runs on."""
        ...

    def give_up(self) -> None:
        """The process ends now, for its loop stands still: tell the client, if it was told nothing yet."""
        ...


class Client(Protocol):
    """The client that a call answers; its methods belong to the loop's thread."""

    def answer(self, response: Response, seconds: float) -> None:
        """Send a whole response, whose body is bytes; `seconds` is what the handler took."""
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

    def call_over(self, call: Pending) -> None:
        """The call needs its client no more and no longer counts as in flight."""
        ...

    def retire(self) -> None:
        """A handler hangs for ever: end this process as soon as the others are answered."""
        ...


class Stage(Protocol):
    """Where a call's handler, or the stream that it returned, runs or waits to run: on the loop or in a thread. A call
    goes from one stage to the next when an async handler returns a plain generator, or a plain function something to
    await. Its methods belong to the loop's thread."""

    def start(self) -> None:
        """Wait for a turn or a thread; perhaps begin at once."""
        ...

    def withdraw(self) -> bool:
        """Keep the handler from beginning; return False if it has begun, or a thread is about to look if it may."""
        ...

    def release(self) -> None:
        """The call is over: what has not begun need not, and nobody waits for the client any more."""
        ...

    def is_hung(self) -> bool:
        """Whether the function's own code keeps a thread, which cannot be cancelled."""
        ...

    def cancel(self) -> asyncio.Task[None] | None:
        """Cancel the task that runs on the loop and return it; None if there is none."""
        ...
