"""Replaces a revision by the next: saved first, so that a killed controller leaves no half of a change."""

from __future__ import annotations

from dataclasses import replace

from rescoldo.control.deploy.change_context import ChangeContext
from rescoldo.control.deploy.first_starts import FirstStarts
from rescoldo.control.deploy.traffic import Traffic
from rescoldo.control.fleet.awake import Awake
from rescoldo.control.fleet.entry import Entry
from rescoldo.model.function import Function, FunctionPolicy
from rescoldo.model.revision import Revision
from rescoldo.model.standing import Standing


class Switch:
    """The last step of an update and of a changed secret."""

    def __init__(self, context: ChangeContext, trials: FirstStarts, traffic: Traffic) -> None:
        self._context = context
        self._trials = trials
        self._traffic = traffic

    async def switch(
        self, entry: Entry, function: Function, policy: FunctionPolicy, awake: Awake | None, *, untried: bool = False
    ) -> None:
        """Save `function` and let it serve from now on. Without `awake`, the next call starts an instance; with
        `untried`, a trial does. Raises StoreError, and then nothing has changed."""
        before, failure = entry.function, entry.failure
        saved = replace(entry.standing, untried=untried, failure="")
        try:
            if not entry.past:  # a past one takes its generation from the function, saved with the current one
                await self._context.store.save_function(function, keep=self._context.kept, standing=saved)
        except BaseException:
            if awake is not None:
                self._context.check.drop(awake)
            raise
        was_untried = entry.standing.untried
        await self.apply(entry, function, policy, awake, saved, untried=untried)
        if was_untried and before.revision != function.revision:
            await self._never_started(before, failure.error.message if failure is not None else "")

    async def apply(
        self, entry: Entry, function: Function, policy: FunctionPolicy, awake: Awake | None, saved: Standing, *,
        untried: bool = False,
    ) -> None:
        """Let `function` serve, which the store has already, together with the standing `saved`."""
        before = entry.function
        entry.function, entry.policy, entry.failure, entry.fresh = function, policy, None, True
        if not entry.past:
            entry.standing = replace(entry.standing, untried=untried, failure="")
            if entry.standing != saved:  # paused or resumed meanwhile
                self._context.fleet.standings.save_soon(entry)
        if awake is not None:
            await self._context.fleet.wakes.take_over(entry, awake)
        else:
            await self._context.fleet.retirement.unroute(entry, f"revision {function.revision} was deployed")
        if untried and not entry.standing.paused:
            self._trials.begin(entry)
        self._context.fleet.wakes.keep_awake_soon(entry)
        await self._traffic.end(function, before.traffic.keys() - function.traffic.keys())

    async def _never_started(self, before: Function, reason: str) -> None:
        """Mark a replaced revision that never started as failed, so that no rollback chooses it."""
        failed = replace(Revision.of(before), failure=reason or "it was replaced before it had started")
        await self._context.store.save_failed(before.id, failed, keep=self._context.kept)
