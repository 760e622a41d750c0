"""The grants of this worker: its right to run functions with `rescoldo.dev/max-strict: true` (policy/grants.py).

  * No instance of such a function starts without a valid grant, and all have ended before it ends.
  * A grant counts from before its request was sent, on a clock that goes on while the machine sleeps and that all
    processes of the machine share. It is on disk before it is used, so that the next controller knows until when the
    instances that it adopts may run. A grant of an earlier boot is void: its instances ended with that boot.
  * Asked at 0 s for 30 s: renewed from 10 s on, once a second until that succeeds. From 20 s on nothing starts any more
    and the instances are stopped: STOP_SECONDS are left for a look (1 s), their grace (MOST_STRICT_GRACE, 8 s) and the
    end of their processes (1 s). So control may be away for 10 s at least, and for 20 s at most.
  * It is given back when no instance of the function is left here. If another worker wants it, the instances finish
    their calls and end first. Nothing starts here meanwhile, nor for TURN_SECONDS afterwards: a worker that still gets
    calls, because gateways disagree, would have it for ever. The other one asks at most DENIED_SECONDS after it was
    denied, so it is first.

A controller that is killed or hangs does not stop instances in time unless the next one begins within 20 s. The
supervisor starts it anew within a few.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Callable, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from rescoldo.durable import PARTIAL, replace_text
from rescoldo.link.protocol import Control
from rescoldo.model.errors import Busy, RescoldoError
from rescoldo.model.function import MOST_STRICT_GRACE
from rescoldo.model.names import FunctionId, RouteKey
from rescoldo.policy.grants import GRANT_SECONDS
from rescoldo.tasks import Tasks

LOOK_SECONDS = 1.0
STOP_SECONDS = MOST_STRICT_GRACE + 2 * LOOK_SECONDS  # before its end, a grant is not used any more
RENEW_SECONDS = GRANT_SECONDS / 3
DENIED_SECONDS = 1.0  # for which control is not asked again
TURN_SECONDS = 2 * DENIED_SECONDS  # for which this worker does not ask for what it has let go
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_LOG = logging.getLogger(__name__)


class Strict(Protocol):
    """The functions with max-strict, as the fleet has them."""

    def running(self, held: Set[FunctionId]) -> Set[FunctionId]:
        """Those that have an instance here, also one that is being started or stopped; of functions in `held`, too,
        that were removed or have max-strict no more."""
        ...

    async def end(self, function: FunctionId) -> None:
        """Stop all instances now, though calls are in flight."""
        ...

    async def let_go(self, function: FunctionId) -> None:
        """Let the instances finish their calls and end."""
        ...


@dataclass(frozen=True, slots=True)
class _Held:
    function: FunctionId
    token: str
    asked: float  # seconds on the clock, before the request was sent
    until: float  # seconds on the clock
    boot: str  # of the machine

    @property
    def usable_until(self) -> float:
        return self.until - STOP_SECONDS


class Grants:
    """Asks control for grants, keeps them in `folder`, and ends what has none. `run` until cancelled."""

    def __init__(
        self, control: Control, folder: Path, pod: str, clock: Callable[[], float] | None = None, boot: str = ""
    ) -> None:
        """`pod` begins the name under which this worker holds grants. `clock` and `boot` are the machine's, unless a
        test has its own."""
        self._control = control
        self._folder = folder
        self._sender = pod
        self._clock = clock or (lambda: time.clock_gettime(time.CLOCK_BOOTTIME))
        self._boot = boot
        self._held: dict[FunctionId, _Held] = {}
        self._asking: dict[FunctionId, asyncio.Task[None]] = {}
        self._denied: dict[FunctionId, tuple[float, Busy]] = {}  # until when on the clock, and why
        self._ending: set[FunctionId] = set()
        self._wanted: set[FunctionId] = set()  # by other workers
        self._leaving: set[FunctionId] = set()  # their instances finish what they have, then the grant is given back
        self._tasks = Tasks()

    def load(self) -> None:
        """Find the grants of an earlier process of this worker, and its name. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for partial in self._folder.glob(f"*{PARTIAL}"):
            partial.unlink()
        name = self._folder / "sender"
        if not name.exists():
            replace_text(name, f"{self._sender}/{secrets.token_hex(8)}")
        self._sender = name.read_text()
        self._boot = self._boot or BOOT_ID.read_text().strip()
        for path in self._folder.glob("*.json"):
            held = _read(path)
            if held is None or held.boot != self._boot:
                path.unlink()
            else:
                self._held[held.function] = held

    # -- starting

    async def acquire(self, function: FunctionId) -> None:
        """Return while this worker has a valid grant, which it asks for where it has none. Raises Busy with the reason
        and the time after which another attempt may succeed."""
        while not self._is_usable(function):  # again after the wait: others run between an answer and its waiters
            if function in self._leaving:
                raise Busy(f"{function} has max-strict, and another worker asks for it")
            until, why = self._denied.get(function, (0.0, None))
            if why is not None and self._clock() < until:
                raise why
            await asyncio.shield(self._ask(function))

    def _is_usable(self, function: FunctionId) -> bool:
        held = self._held.get(function)
        return held is not None and self._clock() < held.usable_until and function not in self._leaving

    def _ask(self, function: FunctionId) -> asyncio.Task[None]:
        """Ask for a grant, or for its renewal; one request of a function at a time. The task never fails: `_held` or
        `_denied` has its result."""
        if function not in self._asking:
            self._asking[function] = self._tasks.spawn(f"ask for a grant of {function}", self._request(function))
            self._asking[function].add_done_callback(lambda _: self._asking.pop(function, None))
        return self._asking[function]

    async def _request(self, function: FunctionId) -> None:
        asked = self._clock()
        try:
            grant = await self._control.grant(function, self._sender)
            held = _Held(function, grant.token, asked, asked + grant.seconds, self._boot)
            if not grant.seconds:
                self._deny(function, Busy("another worker may still run it", retry_after=grant.retry_after))
            elif self._clock() >= held.usable_until:
                self._deny(function, Busy("control answered too late"))
            else:
                self._keep(held)
                self._denied.pop(function, None)
                if grant.wanted and function not in self._leaving:
                    self._wanted.add(function)
        except (RescoldoError, OSError) as error:
            self._deny(function, Busy(str(error)))

    def _deny(self, function: FunctionId, why: Busy, seconds: float = DENIED_SECONDS) -> None:
        text = f"{function} has max-strict, and no instance may start now: {why.message}"
        self._denied[function] = (self._clock() + seconds, Busy(text, retry_after=why.retry_after))

    # -- keeping and ending

    async def run(self, strict: Strict) -> None:
        """Renew and give back grants, and end instances that have none, until cancelled."""
        try:
            while True:
                self._look(strict)
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await self._tasks.close()

    def _look(self, strict: Strict) -> None:
        running, now = strict.running(self._held.keys()), self._clock()
        for function in running:
            held = self._held.get(function)
            if held is None or now >= held.usable_until:
                self._end(function, strict)
            elif now >= held.asked + RENEW_SECONDS:
                self._ask(function)
            if function in self._wanted:
                self._wanted.discard(function)
                self._leaving.add(function)
                self._tasks.spawn(f"let go of {function}", strict.let_go(function))
        for function in self._held.keys() - running - self._asking.keys():
            self._give_back(function)
        self._denied = {function: one for function, one in self._denied.items() if one[0] > now}

    def _end(self, function: FunctionId, strict: Strict) -> None:
        if function not in self._ending:
            _LOG.warning("%s: its grant ends and is not renewed; its instances are stopped", function)
            self._ending.add(function)
            ending = self._tasks.spawn(f"end {function}", strict.end(function))
            ending.add_done_callback(lambda _: self._ending.discard(function))

    def _give_back(self, function: FunctionId) -> None:
        held = self._held.pop(function)  # before control hears of it: nothing starts under it any more
        self._wanted.discard(function)
        if function in self._leaving:
            self._leaving.remove(function)
            self._deny(function, Busy("another worker asks for it"), TURN_SECONDS)
        self._path(function).unlink(missing_ok=True)
        self._tasks.spawn(f"give back {function}", self._tell_back(held))

    async def _tell_back(self, held: _Held) -> None:
        try:
            await self._control.give_back(held.function, self._sender, held.token)
        except RescoldoError as error:  # then it ends by itself
            _LOG.info("%s: control does not hear that its grant is given back: %s", held.function, error.message)

    def _keep(self, held: _Held) -> None:
        replace_text(self._path(held.function), json.dumps(asdict(held)))
        self._held[held.function] = held

    def _path(self, function: FunctionId) -> Path:
        return self._folder / f"{function}.json"


def _read(path: Path) -> _Held | None:
    """A grant as `_keep` has written it; None for anything else."""
    try:
        found = json.loads(path.read_text())
        function = FunctionId(RouteKey(str(found["function"])))
        return _Held(function, str(found["token"]), float(found["asked"]), float(found["until"]), str(found["boot"]))
    except (ValueError, KeyError, TypeError):
        return None
