"""One client's HTTP/1.1 connection: receiver.py before the handler, responder.py after it.

Guarantees:
- the requests of one connection are answered one after another, in order; while one is being answered, at most one
  read's worth of further requests is kept;
- a message that is not HTTP, or over a limit, gets one clear response, and the connection ends; later bytes are
  dropped.
"""

from __future__ import annotations

import asyncio
from typing import cast

from rescoldo.runtime.events import Request
from rescoldo.runtime.http.flow import FlowControl
from rescoldo.runtime.http.head import CONTINUE
from rescoldo.runtime.http.protocol import Service
from rescoldo.runtime.http.receiver import Receiver
from rescoldo.runtime.http.responder import Responder
from rescoldo.runtime.results import Response


class Connection(asyncio.Protocol):
    """Reads requests and starts their calls, one at a time. The client is usually HAProxy. Implements Visitor."""

    __slots__ = ("_body_timed", "_flow", "_fresh", "_receiver", "_responder", "_service", "_transport", "_turning")

    def __init__(self, service: Service) -> None:
        self._service = service
        self._receiver = Receiver(service)
        self._fresh = True  # no request of it was dispatched yet
        self._turning = False  # inside _turn: a call that answers at once re-enters it
        self._body_timed = False  # a timer runs for a body that takes more than one read

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._flow = FlowControl(self._transport)
        self._responder = Responder(self._service, self._transport, self._flow, self._answered)
        self._service.connection_came(self, self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._receiver.forget()
        self._responder.request = None
        self._tell_call()
        self._flow.resume_writing()
        self._service.connection_over(self)

    def data_received(self, data: bytes) -> None:
        receiver = self._receiver
        if receiver.deaf:
            return
        receiver.feed(data)
        if receiver.in_body and not self._body_timed:
            self._look_at_body()
        self._turn()

    def eof_received(self) -> bool:
        self._responder.eof = True
        if self._responder.request is None and not self._receiver.received:
            return False
        if not self._responder.has_left():
            return True  # half-closed: the client may still read its response
        self._tell_call()  # before the loop does anything else: the handler may be about to begin
        return False

    def pause_writing(self) -> None:
        self._flow.pause_writing()

    def resume_writing(self) -> None:
        self._flow.resume_writing()
        self._turn()

    def _tell_call(self) -> None:
        """Tell the call that its client has left."""
        call, self._responder.call = self._responder.call, None
        if call is not None:
            call.client_left()

    def _look_at_body(self) -> None:
        self._body_timed = False
        receiver, now = self._receiver, self._service.loop.time()
        if not receiver.in_body:
            return
        if self._responder.request is not None or receiver.received:
            receiver.restart_body(now)  # the previous response may be why we stopped reading
        left = receiver.body_due() - now
        if left > 0:
            self._body_timed = True
            self._service.loop.call_later(left, self._look_at_body)
        else:
            receiver.refuse(408, "the body did not arrive in time")
            self._turn()

    # -- one request after another

    def _turn(self) -> None:
        """Start the next call if possible.

        A loop rather than recursion, because one read may hold thousands of requests. It starts no call while the
        client does not read its responses.
        """
        transport, receiver, responder = self._transport, self._receiver, self._responder
        if self._turning or transport.is_closing():
            return
        self._turning = True
        while responder.request is None and receiver.received and self._flow.writable and not transport.is_closing():
            item = receiver.received.popleft()
            if isinstance(item, Response):
                responder.refuse(item)
            else:
                responder.request = item
                # The loop reports the end of a new connection one turn after its first request, so a fresh request's
                # client may have left unnoticed.
                call = self._service.dispatch(responder, item, fresh=self._fresh)
                self._fresh = False
                if responder.request is item:  # otherwise `dispatch` has answered it already
                    responder.call = call
        self._turning = False
        if receiver.awaits_continue and responder.request is None and not receiver.received:
            receiver.awaits_continue = False
            transport.write(CONTINUE)
        self._flow.pace_reading(behind=bool(receiver.received))

    def _answered(self, request: Request) -> None:
        responder, received = self._responder, self._receiver.received
        responder.request = responder.call = None
        # While requests wait, reading is paused, so only the socket shows that their client has left.
        if received and responder.has_left():
            self._transport.abort()
        elif not request.keep_alive or (self._service.draining and not received):
            received.clear()
            self._transport.close()
        else:
            self._turn()

    # -- the end of the server

    def close_if_idle(self) -> None:
        """See Visitor."""
        if self._responder.request is None and self._receiver.request is None and not self._receiver.received:
            self._transport.close()

    def cut_unless_called(self) -> None:
        """See Visitor."""
        if self._responder.call is None:
            self._transport.abort()
