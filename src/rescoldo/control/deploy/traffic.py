"""Splits a function's traffic between its revisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from rescoldo.control.deploy.change_context import ChangeContext
from rescoldo.control.deploy.revisions import past_revision
from rescoldo.control.fleet.entry import Entry
from rescoldo.model.errors import InvalidInput, RolloutFailed, StartFailed, StartTimeout
from rescoldo.model.function import Function
from rescoldo.model.names import FunctionId, revision_key
from rescoldo.model.revision import check_traffic


class Traffic:
    """Gives revisions a share of the traffic, and ends it."""

    def __init__(self, context: ChangeContext) -> None:
        self._context = context

    async def split(self, function: FunctionId, shares: Mapping[int, int]) -> None:
        """See api.protocol.Traffic."""
        wanted = check_traffic(shares)
        async with self._context.changes.of(function):
            entry = self._context.fleet.entries.current(function)
            entry.check_not_paused("its traffic cannot be split: a split would start instances")
            current = entry.function
            if wanted.keys() == {current.revision}:
                wanted = {}
            new = wanted.keys() - current.traffic.keys() - {current.revision}
            try:
                for number in sorted(new):
                    await self._start_share(entry, number)
                await self.route(entry, wanted)
            except BaseException:
                if entry.function is current:  # it was not applied
                    await self.end(current, new)
                raise

    async def _start_share(self, entry: Entry, number: int) -> None:
        """Add a past revision to those that take traffic, and check that it starts. Raises InvalidInput,
        RolloutFailed, Busy."""
        current = entry.function
        past = past_revision(current, await self._context.store.revisions(current.id), number)
        await self._context.images.need(past.digest)
        policy = self._context.policies.checked(past.spec, past.digest)
        if self._context.check.excludes(policy, entry.policy):
            raise InvalidInput(
                f"revisions {current.revision} and {number} of {current.id} cannot share traffic: both are programs at "
                "the same TCP port, and all instances share ports here; use `upstream_url: inherited`, or another port "
                "for one of them"
            )
        self._context.images.check_bundle(past.digest, past.spec.image)
        async with self._context.spaces.deploying(past.spec):
            share = self.add(past.serving(current))
        await self._context.fleet.routes.publish(share)
        try:
            await self._context.fleet.wakes.wake(share.key, f"revision {number} got a share of the traffic")
        except (StartFailed, StartTimeout) as error:
            raise RolloutFailed(
                f"revision {number} of {current.id} does not start; the traffic is unchanged: {error.message}"
            ) from error

    def add(self, function: Function) -> Entry:
        """Add a past revision to those that take traffic."""
        return self._context.fleet.entries.add(function, self._context.policies.stored(function), past=True)

    async def route(self, entry: Entry, traffic: Mapping[int, int]) -> None:
        """Save and apply a split between revisions that have an entry."""
        split = replace(entry.function, traffic=traffic)
        await self._context.store.save_function(split, keep=self._context.kept)
        await self.apply(entry, split)

    async def apply(self, entry: Entry, split: Function) -> None:
        """Apply a split that the store has already, between revisions that have an entry."""
        before, entry.function = entry.function, split
        await self._context.fleet.routes.publish(entry)
        for one in self._context.fleet.entries.revisions(entry.id):
            self._context.fleet.wakes.keep_awake_soon(one)
        await self.end(split, before.traffic.keys() - split.traffic.keys())

    async def end(self, function: Function, numbers: Iterable[int]) -> None:
        """Take down revisions that no split names any more; their requests finish."""
        for number in numbers:
            entry = self._context.fleet.entries.pop(revision_key(function.id, number), None)
            if entry is not None:
                await self._context.fleet.retirement.unroute(entry, "its share of the traffic ended")
                entry.remove()
                await self._context.fleet.routes.forget(entry.key)
