"""The functions that a worker has looked up, kept in step with control's.

The guarantees:
  * A worker never goes back to an earlier version of a function that it has.
  * What is removed stays away: an answer that was on its way when the removal was told does not bring it back.
  * After a gap all versions are compared before the stream goes on, so that no change is missed.
  * A document is handed out only once its bundles and secrets are here.
  * A document that cannot be taken over, as this version does not understand it or control has not its bundle, is
    refused with the reason. A function that was served before goes on with the document before; any other is Refused.
Without control the functions that were looked up go on. Others wait for RESTART_SECONDS, in which a control that is
restarted is back; then they are Unreachable, since nobody can tell whether they exist.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Set
from dataclasses import replace

from rescoldo.link.known import KnownDocuments
from rescoldo.link.marks import Marks
from rescoldo.link.protocol import GONE, HEARTBEAT_SECONDS, Change, Control, Delivery, Refused, Unreachable
from rescoldo.link.refusals import Refusals
from rescoldo.model.deployed import Deployed
from rescoldo.model.errors import InvalidInput, RescoldoError, Superseded
from rescoldo.model.names import FunctionId, check_name, split_id
from rescoldo.policy.backoff import retry_delay
from rescoldo.store.changes import Watchers

UNKNOWN_SECONDS = 1.0  # for which a name that control does not know, or that was refused, is not asked for again
MOST_UNKNOWN = 10_000  # names remembered as unknown
AT_ONCE = 32  # look-ups; more wait for a turn
RESTART_SECONDS = 15.0  # that control may be away before look-ups fail; its pod is back after 3 to 8
AGAIN_SECONDS = 0.25  # between two attempts meanwhile
MOST_WAITING = 1_000  # look-ups that are to be attempted again
SILENCE_SECONDS = 3 * HEARTBEAT_SECONDS  # without a line, the stream counts as broken

_LOG = logging.getLogger(__name__)


class JoinedDocuments:
    """Implements `Documents` over a `Control`. `run` follows control until it is cancelled."""

    complete = False

    def __init__(
        self, control: Control, known: KnownDocuments, namespace: str, bring: Callable[[Delivery], Awaitable[None]],
        on_change: Callable[[FunctionId], None] = lambda _: None,
    ) -> None:
        """`namespace`: the only one of this worker. `bring` makes bundles and secrets available here. `on_change` is
        called with a function whose document was replaced by control's, before a watcher hears of it."""
        self._control = control
        self._namespace = namespace
        self._bring = bring
        self._on_change = on_change
        self._known = known
        self._unknown: dict[FunctionId, float] = {}  # until when, in seconds on the loop's clock; oldest first
        self._asking: dict[FunctionId, asyncio.Task[Deployed | None]] = {}
        self._waiting: set[FunctionId] = set()  # for control to be back
        self._told: dict[FunctionId, set[int]] = {}  # versions told while a look-up is under way
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._bringing = Counter[str]()  # digests of bundles
        self._watchers = Watchers()
        self.refusals = Refusals()
        self.marks = Marks()
        self.comparisons = 0  # of all versions: one after each gap in the stream of changes
        self._confirmed = float("-inf")  # seconds on the loop's clock: until then all that we know was true
        self._away_since: float | None = None  # the same: the first failure since control was heard last

    @property
    def unconfirmed(self) -> float:
        """Seconds since control last confirmed what is known here."""
        return _now() - self._confirmed

    def is_reachable(self) -> bool:
        """Whether control is heard now."""
        return self.unconfirmed <= SILENCE_SECONDS

    # -- Documents

    async def all(self) -> list[Deployed]:
        return list(self._known)

    async def get(self, function: FunctionId) -> Deployed | None:
        if (found := self._known.get(function)) is not None:
            return found
        if self._is_foreign(function):
            return None
        if self._unknown.get(function, 0.0) > _now():
            if (reason := self.refusals.get(function)) is not None:
                raise Refused(reason)
            return None
        if function not in self._asking:
            asking = asyncio.create_task(self._look_up(function), name=f"look up {function}")
            self._asking[function] = asking
            asking.add_done_callback(lambda _: self._asking.pop(function, None))
        return await asyncio.shield(self._asking[function])  # a caller that leaves does not end it for the others

    def digests(self) -> set[str]:
        """The bundles that functions here need, those included that are being brought."""
        return {one.function.digest for one in self._known.documents()} | self._bringing.keys()

    def is_asking(self, function: FunctionId) -> bool:
        """Whether a look-up is under way, whose answer may be from before a change that was told."""
        return function in self._asking

    def ask_anew(self, function: FunctionId) -> None:
        """Look a function up the next time, although control did not know it a moment ago."""
        self._unknown.pop(function, None)

    async def put(self, deployed: Deployed) -> int:
        try:
            version = await self._control.put(deployed)
        except Superseded:
            if await self._renew(deployed.id):  # others were faster
                self._watchers.note(deployed.id)
            raise
        self._known.keep(replace(deployed, version=version))
        self._unknown.pop(deployed.id, None)
        return version

    async def delete(self, function: FunctionId) -> None:
        await self._control.delete(function)
        self._known.forget(function)

    def watch(self) -> AsyncIterator[FunctionId | None]:
        return self._watchers.add()

    def close(self) -> None:
        """End the watchers' iterations."""
        self._watchers.close()

    # -- looking up

    def _is_foreign(self, function: FunctionId) -> bool:
        """Whether no function of this worker can have that id: it is of another namespace, or not a name at all."""
        name, namespace = split_id(function)
        with contextlib.suppress(InvalidInput):
            return namespace != self._namespace or not check_name(name)
        return True

    async def _look_up(self, function: FunctionId) -> Deployed | None:
        while True:
            try:
                async with self._turns:
                    found = await self._look_up_once(function)
            except Unreachable:
                if not self._may_be_restarting() or len(self._waiting) >= MOST_WAITING:
                    raise
                self._waiting.add(function)
                await asyncio.sleep(AGAIN_SECONDS)
                self._waiting.remove(function)
            else:
                self._away_since = None
                return found

    def _may_be_restarting(self) -> bool:
        """Note that control cannot be reached; return whether it is away for no longer than a restart takes."""
        if self._away_since is None:
            self._away_since = _now()
        return _now() - self._away_since <= RESTART_SECONDS

    async def _look_up_once(self, function: FunctionId) -> Deployed | None:
        while True:
            told = self._told[function] = set()
            try:
                found = await self._deliver_or_refuse(function)
                if _is_older(found, told):
                    continue
            finally:
                del self._told[function]
            if found is None:
                self._note_unknown(function)
                return None
            self._unknown.pop(function, None)
            return self._known.keep(found.document)

    async def _deliver_or_refuse(self, function: FunctionId) -> Delivery | None:
        """`_deliver`; raises Refused where it raises another error than Unreachable."""
        try:
            return await self._deliver(function)
        except Unreachable:
            raise
        except RescoldoError as error:
            self.refusals.note(function, error.message)
            self._note_unknown(function)
            raise Refused(error.message) from error

    async def _deliver(self, function: FunctionId) -> Delivery | None:
        """Ask control for a function; return it once what it needs is here."""
        found = await self._control.deliver(function)
        if found is not None:
            digests = Counter({found.document.function.digest, *(one.digest for one in found.document.revisions)})
            self._bringing += digests
            try:
                await self._bring(found)
            finally:
                self._bringing -= digests  # from here on it is known: nothing runs in between
        self.refusals.end(function)
        return found

    def _note_unknown(self, function: FunctionId) -> None:
        self._unknown.pop(function, None)
        self._unknown[function] = _now() + UNKNOWN_SECONDS
        if len(self._unknown) > MOST_UNKNOWN:
            del self._unknown[next(iter(self._unknown))]

    # -- following

    async def run(self) -> None:
        """Follow control's changes, until cancelled; whenever they cannot be heard, begin again."""
        failures = 0
        while True:
            begun = _now()
            try:
                await self._follow()
            except RescoldoError as error:  # Unreachable, or an answer that is not control's
                self._may_be_restarting()
                failures = 1 if self._confirmed > begun else failures + 1
                if failures == 1:
                    _LOG.warning("%s; functions that are known here go on", error.message)
            await asyncio.sleep(retry_delay(failures))

    async def _follow(self) -> None:
        changes = self._control.changes()
        await self._next(changes)  # from here on nothing is missed
        self.marks.clear()
        await self._compare(await self._control.versions())
        self.comparisons += 1
        self._confirmed, self._away_since = _now(), None
        while True:
            change = await self._next(changes)
            if change is not None:
                await self._take(change)
            self._confirmed = _now()

    async def _next(self, changes: AsyncIterator[Change | None]) -> Change | None:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                return await anext(changes)
        except (TimeoutError, StopAsyncIteration) as error:
            raise Unreachable from error

    async def _compare(self, versions: dict[FunctionId, int]) -> None:
        for known in self._known:
            version = versions.get(known.id, GONE)
            if version != known.version:
                await self._take(Change(known.id, version))
        for gone in self.refusals.keys() - versions.keys():
            self.refusals.end(gone)
        self._unknown.clear()

    async def _take(self, change: Change) -> None:
        """Take a change over, tell the watchers, and note its mark. Raises Unreachable."""
        if await self._has_changed(change):
            self._on_change(change.function)
            self._watchers.note(change.function)
        if change.mark:
            self.marks.note(change.function, change.mark)

    async def _has_changed(self, change: Change) -> bool:
        """Take a change over; return whether that made a difference. Raises Unreachable."""
        function = change.function
        self._unknown.pop(function, None)
        if change.version == GONE:
            self.refusals.end(function)
        if function in self._told:
            self._told[function].add(change.version)
        known = self._known.get(function)
        if known is None or (change.version != GONE and change.version <= known.version):
            return False
        if change.version == GONE:
            self._known.forget(function)
            self._note_unknown(function)  # whoever lets go of it need not ask, and control may be away by then
            return True
        return await self._renew(function)

    async def _renew(self, function: FunctionId) -> bool:
        """Read a function again; return whether there is another document, or none any more. Raises Unreachable."""
        before = self._known.get(function)
        try:
            found = await self._deliver(function)
        except Unreachable:
            raise
        except RescoldoError as error:  # the present document goes on; the next comparison tries again
            _LOG.warning("cannot take over a change of %s: %s", function, error.message)
            self.refusals.note(function, error.message)
            return False
        if found is None:
            self._known.forget(function)
            return before is not None
        return self._known.keep(found.document) is not before


def _is_older(found: Delivery | None, told: Set[int]) -> bool:
    """Whether an answer may be older than one of the changes that were told while it was on its way."""
    if found is None:
        return bool(told - {GONE})
    return any(version == GONE or version > found.document.version for version in told)


def _now() -> float:
    return asyncio.get_running_loop().time()
