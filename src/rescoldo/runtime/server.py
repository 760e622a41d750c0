"""The server of one instance: accepts connections, counts calls in flight, and ends once they are answered.

It ends in two ways. Drained (SIGTERM): it accepts no more, answers the calls in flight, and exits with code 0. Retired
(a thread hangs past its deadline): the same with exit code 124. The node then starts a new process on the same
listening socket, where clients wait meanwhile.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import time
from collections.abc import Callable
from functools import partial

from rescoldo.model.errors import InvalidInput
from rescoldo.model.instance import LISTENS, Launch
from rescoldo.model.units import parse_duration
from rescoldo.runtime.calls.answer import PROMPT
from rescoldo.runtime.calls.call import Call
from rescoldo.runtime.calls.handling import HandlerInThread, HandlerOnLoop
from rescoldo.runtime.calls.protocol import Client, Pending
from rescoldo.runtime.events import Request
from rescoldo.runtime.handlers import Handler
from rescoldo.runtime.http.connection import Connection
from rescoldo.runtime.http.protocol import Visitor
from rescoldo.runtime.journal import JOURNAL, STANDARD
from rescoldo.runtime.leftovers import Jobs, kill_children
from rescoldo.runtime.listener import Listener, listen
from rescoldo.runtime.results import Response, refusal
from rescoldo.runtime.threads import Threads
from rescoldo.runtime.turns import Turns
from rescoldo.runtime.watchdog import Watchdog

RETIRED = 124  # exit code, as in timeout(1)
MAX_THREADS = 64
IDLE_PAUSE = 0.01  # seconds from the end of accepting to closing idle connections: requests under way still arrive
PATIENCE = 3.0  # seconds a draining server waits for clients that neither send nor read


class Server:
    """Serves `handler` on one listening socket. Implements Service for its connections and Host for its calls."""

    def __init__(self, launch: Launch, handler: Handler, root: str, loop: asyncio.AbstractEventLoop) -> None:
        self.launch = launch
        self.function = launch.function.encode()
        self.handler = handler
        self.root = root
        self.loop = loop
        threads = max(1, min(launch.concurrency, MAX_THREADS))
        self.threads = Threads(loop, threads)
        self.turns = Turns(max(1, launch.concurrency))
        self.jobs = Jobs(threads)
        loop.set_default_executor(self.jobs)  # `_check_cancelled` looks for jobs that outlive their call
        self.connections: set[Visitor] = set()
        self.draining = False
        self._calls: set[Pending] = set()
        self._last_call = self._doubted_until = 0.0
        self._code = 0
        self._listener: Listener | None = None
        self._moving: dict[Visitor, tuple[int, socket.socket]] = {}
        self._moves: set[asyncio.Task[object]] = set()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._first_stage = HandlerOnLoop if handler.on_loop else HandlerInThread
        bark = self._die_blocked if handler.on_loop else None
        self._watchdog = Watchdog(loop, launch.exec_timeout, lambda: bool(self._calls), bark)

    async def serve(self, listener: socket.socket, ready: Callable[[], None]) -> int:
        """Serve until drained or retired; return the exit code. `ready` is called once the server accepts."""
        self._listener = await listen(self.loop, listener, partial(Connection, self))
        self.loop.add_signal_handler(signal.SIGTERM, self.drain)
        self.loop.add_signal_handler(LISTENS, self._check_listener)
        ready()
        if not self.handler.on_loop:
            self.threads.prepare()  # meanwhile the waiting clients get their responses
        await self._ended
        return self._code

    def dispatch(self, client: Client, request: Request, *, fresh: bool) -> Pending | None:
        """See Service. Answers requests to the platform's own routes at once."""
        if request.target.startswith(b"/_/") and (own := self._own_route(request)) is not None:
            client.answer(own, 0.0)
            return None
        if self.launch.exec_timeout:
            self._watchdog.watch()
        doubtful = self._was_away() or fresh
        call = Call(self, client, request, self._limit(request), doubtful=doubtful)
        self._calls.add(call)
        call.enter(self._first_stage(call))
        return call

    def _was_away(self) -> bool:
        """Whether the loop may have stood still lately, so that clients have left unnoticed.

        A gap of more than PROMPT since the last call counts, whatever its cause. Calls that follow stay doubtful for
        as long again: their requests piled up during the gap.
        """
        now = time.perf_counter()
        gap, self._last_call = now - self._last_call, now
        if gap > PROMPT:
            self._doubted_until = now + gap
        return now < self._doubted_until

    def _own_route(self, request: Request) -> Response | None:
        """Answer /_/health and /_/ready, which every OpenFaaS workload has
        (https://docs.openfaas.com/reference/workloads)."""
        path = request.target.partition(b"?")[0]
        if path not in (b"/_/health", b"/_/ready"):
            return None
        if request.method not in ("GET", "HEAD"):
            return refusal(405, "use GET")
        if self.draining:
            return refusal(503, "this instance is ending")
        if path == b"/_/ready" and len(self._calls) >= self.launch.concurrency:
            return refusal(429, f"{len(self._calls)} calls are in flight")
        return Response(200, b"Content-Type: text/plain; charset=utf-8\r\n", b"OK")

    def _limit(self, request: Request) -> float:
        """Return the call's deadline in seconds, 0 for none; X-Timeout can only shorten it."""
        limit = self.launch.exec_timeout
        if not request.timeout:
            return limit
        try:
            wanted = parse_duration(request.timeout.decode("latin-1"))
        except InvalidInput:
            return limit  # as of-watchdog: an unreadable header is no reason to fail
        return min(limit or wanted, wanted or limit)

    def call_over(self, call: Pending) -> None:
        """See Host."""
        self._calls.discard(call)
        if self.draining:
            self._check_ended()

    def connection_came(self, connection: Visitor, transport: asyncio.Transport) -> None:
        """Register a connection. If its socket has the number of a standard stream that the function has closed, the
        client would receive printed output, so the connection moves to another number."""
        number = transport.get_extra_info("socket").fileno()
        if number >= STANDARD:
            self.connections.add(connection)
        else:
            twin = socket.socket(fileno=fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, STANDARD))
            self._moving[connection] = (number, twin)
            transport.abort()

    def _move(self, number: int, twin: socket.socket) -> None:
        JOURNAL.cover(number)  # so the transport's close closes no standard stream
        task = self.loop.create_task(self.loop.connect_accepted_socket(partial(Connection, self), twin))
        self._moves.add(task)
        task.add_done_callback(self._moves.discard)

    def connection_over(self, connection: Visitor) -> None:
        """Deregister a connection that is lost or closed."""
        self.connections.discard(connection)
        if connection in self._moving:
            self.loop.call_soon(self._move, *self._moving.pop(connection))
        self._check_ended()

    # -- the end

    def drain(self) -> None:
        """Accept no more; end once all calls in flight are answered."""
        if self.draining:
            return
        self.draining = True
        if self._listener is not None:
            self._listener.close()
        self.loop.call_later(IDLE_PAUSE, self._close_idle)
        self.loop.call_later(PATIENCE, self._lose_patience)
        self._check_ended()

    def retire(self) -> None:
        """See Host."""
        self._code = RETIRED
        self.drain()

    def _check_listener(self) -> None:
        """Retire if the function has closed its listening socket. The node sends LISTENS while requests wait and it
        cannot see that itself."""
        if self._listener is not None and not self._listener.is_open() and not self.draining:
            JOURNAL.say("rescoldo: instance no longer takes requests: it has closed its listening socket\n")
            self.retire()

    def _die_blocked(self) -> None:
        """Answer all calls past the blocked loop and end; the node starts a new process in this place."""
        for call in tuple(self._calls):
            call.give_up()
        JOURNAL.say("rescoldo: an async handler blocked its event loop past the deadline; the instance ends\n")
        kill_children()
        os._exit(RETIRED)

    def _close_idle(self) -> None:
        for connection in tuple(self.connections):
            connection.close_if_idle()

    def _lose_patience(self) -> None:
        for connection in tuple(self.connections):
            connection.cut_unless_called()
        if not self._ended.done():
            self.loop.call_later(PATIENCE, self._lose_patience)

    def _check_ended(self) -> None:
        if self.draining and not self._calls and not self.connections and not self._ended.done():
            self._ended.set_result(None)
