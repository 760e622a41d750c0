"""A load of calls on a cluster's functions, which knows of each call whether, when and why it failed."""

from __future__ import annotations

import http.client
import select
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from support.patience import SLOWNESS

Address = tuple[str, int]

CLIENTS = 6
PAUSE = 0.01  # seconds between two calls of a client
LONG_PAUSE = 0.25  # the same where functions sleep in between
CONNECT_SECONDS, ANSWER_SECONDS = 1.0, 30.0
PATIENCE = 60.0 * SLOWNESS  # seconds to wait for calls, or for an address that accepts


@dataclass(frozen=True, slots=True)
class Call:
    """A call that has ended; times are seconds of the monotonic clock."""

    client: int
    address: Address
    method: str
    function: str
    body: str  # of a POST: unlike any other
    begin: float
    end: float
    outcome: str  # the status, or the error of the connection
    cold: bool

    @property
    def failed(self) -> bool:
        return self.outcome != "200"

    @property
    def seconds(self) -> float:
        return self.end - self.begin

    def __str__(self) -> str:
        where = f"client {self.client} at {self.address[0]}"
        return f"{where}: {self.method} {self.function}: {self.outcome}, {self.begin:.3f} to {self.end:.3f} s"


class Load:
    """Clients that call functions, GET and POST in turn, while the `with` block runs. No call is sent twice.

    Each keeps its connection. Where it is refused, or closed before the next call, nothing was sent: the client goes to
    the next address, as load balancers do. So it does after a failed call, and where the server ends the connection.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        awake: Sequence[str],
        asleep: Sequence[str] = (),
        methods: Sequence[str] = ("GET", "POST"),
    ) -> None:
        """CLIENTS call the functions `awake`; one more calls those `asleep`, so seldom that each sleeps in between."""
        self.calls: list[Call] = []
        self.answered = 0
        self.woken = 0  # calls that were answered, and woke a function
        self.refused: list[str] = []  # connections
        self._addresses, self._methods = addresses, methods
        self._turns = [(awake, PAUSE)] * CLIENTS + ([(asleep, LONG_PAUSE)] if asleep else [])
        self._pool = ThreadPoolExecutor(len(self._turns), "client")
        self._clients: list[Future[None]] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def __enter__(self) -> Load:
        self._clients = [
            self._pool.submit(self._call_on, number, functions, pause)
            for number, (functions, pause) in enumerate(self._turns)
        ]
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._pool.shutdown()
        for client in self._clients:
            client.result()

    # -- while it runs

    def more(self, calls: int = 200, wakes: int = 0) -> None:
        """Wait for the answers to so many more calls, of which `wakes` wake a function."""
        answered, woken = self.answered + calls, self.woken + wakes
        self.until(lambda: self.answered >= answered and self.woken >= woken, f"{calls} calls and {wakes} wakes")

    def last(self, seconds: float) -> None:
        """Go on for so long."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end, "the end of the time", seconds + 1.0)

    def until(self, condition: Callable[[], object], what: str, seconds: float = PATIENCE, every: float = 0.01) -> None:
        """Wait for a condition, looked at `every` so many seconds; fail after `seconds`, or when a client has ended."""
        deadline = time.monotonic() + seconds
        while not condition():
            for client in self._clients:
                if client.done():
                    client.result()
            assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}: {self.failures()}"
            time.sleep(every)

    # -- at its end

    @property
    def failed(self) -> list[Call]:
        return [call for call in self.calls if call.failed]

    def failures(self) -> str:
        """The failed calls, for people: the first 20."""
        failed = self.failed
        return "\n".join([f"{len(failed)} of {len(self.calls)} calls failed", *map(str, failed[:20])])

    def most_of_a_client(self) -> int:
        """How many calls of one client failed, at most."""
        return max(Counter(call.client for call in self.failed).values(), default=0)

    def longest(self) -> float:
        """The seconds that the longest answered call took."""
        return max(call.seconds for call in self.calls if not call.failed)

    # -- clients

    def _call_on(self, number: int, functions: Sequence[str], pause: float) -> None:
        line = _Line(self._addresses, number, self.refused)
        turn = number
        try:
            while not self._stopping.wait(pause):
                turn += 1
                method = self._methods[(turn + turn // len(functions)) % len(self._methods)]
                self._note(line.call(method, functions[turn % len(functions)]))
        finally:
            line.close()

    def _note(self, call: Call) -> None:
        with self._lock:
            self.calls.append(call)
            self.answered += not call.failed
            self.woken += call.cold and not call.failed


class _Line:
    """One client and its connection."""

    def __init__(self, addresses: Sequence[Address], number: int, refused: list[str]) -> None:
        self._addresses, self._number, self._refused = addresses, number, refused
        self._at = number
        self._connection: http.client.HTTPConnection | None = None

    def call(self, method: str, function: str) -> Call:
        connection = self._open()
        address = self._address()
        body = uuid.uuid4().hex if method == "POST" else ""
        cold = False
        begin = time.monotonic()
        try:
            connection.request(method, f"/function/{function}", body or None)
            response = connection.getresponse()
            response.read()
            outcome, ends = str(response.status), response.will_close
            cold = response.getheader("x-cold-start") == "true"
        except (OSError, http.client.HTTPException) as error:
            outcome, ends = repr(error), True
        end = time.monotonic()
        if ends:
            self._leave()
        return Call(self._number, address, method, function, body, begin, end, outcome, cold)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _address(self) -> Address:
        return self._addresses[self._at % len(self._addresses)]

    def _leave(self) -> None:
        self.close()
        self._at += 1

    def _open(self) -> http.client.HTTPConnection:
        if self._connection is not None:
            if not select.select([self._connection.sock], [], [], 0)[0]:
                return self._connection
            self._leave()  # a server that says something before the next call has closed it
        deadline = time.monotonic() + PATIENCE
        while True:
            self._connection = http.client.HTTPConnection(*self._address(), timeout=CONNECT_SECONDS)
            try:
                self._connection.connect()
            except OSError as error:
                self._refused.append(f"{self._address()}: {error!r}")
                assert time.monotonic() < deadline, f"no address accepts: {self._refused[-3:]}"
                self._leave()
                time.sleep(0.02)
            else:
                self._connection.sock.settimeout(ANSWER_SECONDS)
                return self._connection
