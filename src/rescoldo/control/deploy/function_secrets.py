"""Brings a changed secret to the instances that have the old value."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from rescoldo.control.deploy.change_context import ChangeContext
from rescoldo.control.deploy.switch import Switch
from rescoldo.control.fleet.entry import Entry
from rescoldo.model.errors import RolloutFailed
from rescoldo.model.function import Function
from rescoldo.model.names import FunctionId


class FunctionSecrets:
    """Lists, saves and deletes secrets, and renews the instances of functions that name a changed one."""

    def __init__(self, context: ChangeContext, switch: Switch) -> None:
        self._context = context
        self._switch = switch

    async def secrets(self, namespace: str) -> list[str]:
        """See api.protocol.Secrets."""
        return await self._context.spaces.secrets(namespace)

    async def save_secret(self, namespace: str, name: str, value: bytes, *, must_exist: bool) -> Sequence[str]:
        """See api.protocol.Secrets. A sleeping function stays asleep. The renewal is no revision of its own, since the
        deployment is the same."""
        users = await self._context.spaces.save_secret(namespace, name, value, must_exist=must_exist)
        await self._renew_all(users, name)
        return ()

    async def renew(self, namespace: str, name: str) -> None:
        """Bring a secret that others have changed to the functions that name it. Raises RolloutFailed, see
        `save_secret`."""
        await self._renew_all(self._context.spaces.users(namespace, name), name)

    async def _renew_all(self, users: set[FunctionId], name: str) -> None:
        results = await asyncio.gather(*(self._renew(one, name) for one in users), return_exceptions=True)
        # collected, not raised at the first: every function is renewed, whatever happens to the others
        problems = [result for result in results if isinstance(result, BaseException)]
        if unexpected := [problem for problem in problems if not isinstance(problem, RolloutFailed)]:
            raise unexpected[0]
        if problems:
            raise RolloutFailed(f"secret {name} was changed, but " + "; ".join(sorted(map(str, problems))))

    async def delete_secret(self, namespace: str, name: str) -> None:
        """See api.protocol.Secrets."""
        await self._context.spaces.delete_secret(namespace, name)

    async def _renew(self, function: FunctionId, secret: str) -> None:
        async with self._context.changes.of(function):
            entry = self._context.fleet.entries.get(function)
            serving = self._context.fleet.entries.revisions(function)
            if entry is None or not any(secret in one.function.spec.secrets for one in serving):
                return
            # a later generation of all revisions, so that the next controller adopts no instance with the old value
            generation = entry.function.generation + 1
            for one in serving:
                await self._renew_revision(one, replace(one.function, generation=generation))

    async def _renew_revision(self, entry: Entry, renewed: Function) -> None:
        awake = None
        if entry.awake is not None and entry.policy.checked:
            try:
                awake = await self._context.check.check(entry, renewed, entry.policy)
            except RolloutFailed as error:
                raise RolloutFailed(
                    f"{renewed.id} does not start with it; its instances keep the old value until they end: "
                    f"{error.message}"
                ) from error
        untried = awake is None and entry.standing.untried
        await self._switch.switch(entry, renewed, entry.policy, awake, untried=untried)
