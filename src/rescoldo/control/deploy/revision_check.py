"""Starts a revision beside the serving one, so that only a started revision takes traffic."""

from __future__ import annotations

import asyncio
import logging

from rescoldo.control.fleet.awake import Awake
from rescoldo.control.fleet.entry import Entry
from rescoldo.control.fleet.fleet import Fleet
from rescoldo.control.fleet.known_node import KnownNode
from rescoldo.model.errors import Conflict, RescoldoError, RolloutFailed, StartFailed, StartTimeout
from rescoldo.model.function import Function, FunctionPolicy
from rescoldo.model.names import FunctionId
from rescoldo.tasks import Tasks

log = logging.getLogger(__name__)


class RevisionCheck:
    """Starts revisions aside, one at a time for each function."""

    def __init__(self, fleet: Fleet, node: KnownNode, tasks: Tasks, *, elsewhere: bool = False) -> None:
        """`elsewhere`: functions start in other processes, and nothing can be checked here: a cluster's control."""
        self.elsewhere = elsewhere
        self._fleet = fleet
        self._node = node
        self._tasks = tasks
        self._checks: dict[FunctionId, asyncio.Task[Awake]] = {}  # at most one for each function
        self._called_off: set[FunctionId] = set()  # functions being removed

    async def check(self, entry: Entry, function: Function, policy: FunctionPolicy) -> Awake | None:
        """Start as many instances of `function` as `entry` has, at least one, and return them; no route leads to
        them. Return None if the two revisions cannot run at once.

        Raises RolloutFailed with the reason if the first does not start, Busy without room, and Conflict if the
        function is removed meanwhile.
        """
        if entry.awake is not None and (self.excludes(policy, entry.policy) or _is_full(entry.awake, policy)):
            return None
        if function.id in self._called_off:
            raise _removed(function)
        check = asyncio.create_task(self._start(entry, function, policy), name=f"check {function.id}")
        self._checks[function.id] = check
        try:
            return await check
        except asyncio.CancelledError:  # of the check, by `call_off`: an error; of the caller: cancels the check, too
            if not check.cancelled() or function.id not in self._called_off:
                check.cancel()
                raise
            raise _removed(function) from None
        except (StartFailed, StartTimeout) as error:
            raise RolloutFailed(error.message) from error
        finally:
            del self._checks[function.id]

    def call_off(self, function: FunctionId) -> None:
        """Cancel a check, and refuse others until `removed`, because the function is being removed."""
        self._called_off.add(function)
        if (check := self._checks.get(function)) is not None:
            check.cancel()

    def removed(self, function: FunctionId) -> None:
        """End `call_off`: a function of this name may be checked again."""
        self._called_off.discard(function)

    def drop(self, awake: Awake) -> None:
        """Take down instances that were started aside and will not serve."""
        self._tasks.spawn(f"drop {awake.function.id}", self._fleet.retirement.retire(awake))

    def excludes(self, one: FunctionPolicy, other: FunctionPolicy) -> bool:
        """Whether two revisions cannot run at once: programs at the same TCP port, if all instances share an
        address."""
        if one.start.upstream != other.start.upstream:
            return False
        return one.at_port and not self._node.description.private_ports

    async def _start(self, entry: Entry, function: Function, policy: FunctionPolicy) -> Awake:
        fresh = Entry(function, policy, requested=entry.requested)
        awake = await self._fleet.wakes.start_aside(function, policy, fresh.wake_number)
        try:
            if (before := entry.awake) is not None:
                # keep the size of a busy function: the calls of all its instances would queue up at a single one
                running = min(len(before.servers), max(policy.max_replicas, entry.requested))
                awake.wanted = max(awake.wanted, running)
                await asyncio.gather(*(self._one_more(awake) for _ in range(running - 1)))
            self._fleet.wakes.drop_lost(awake)
            if not awake.servers:
                raise StartFailed(f"{function.id}: its instance ended right after it was ready")
        except BaseException:
            self.drop(awake)
            raise
        return awake

    async def _one_more(self, awake: Awake) -> None:
        try:
            await self._fleet.instances.launch(awake, first=False)
        except RescoldoError as error:  # the first has started, so the revision works; the scaler retries the rest
            log.warning("%s takes over with fewer instances: %s", awake.function.id, error.message)


def _is_full(awake: Awake, policy: FunctionPolicy) -> bool:
    """Whether no instance may run beside those that serve."""
    return policy.max_strict and len(awake.servers) >= policy.max_replicas


def _removed(function: Function) -> Conflict:
    return Conflict(f"function {function.id} was removed before its revision {function.revision} had started")
