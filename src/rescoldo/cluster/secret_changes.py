"""Changes of functions' secrets, answered once the workers have the new value.

A change makes a new document of each function that names the secret (control/deploy/function_secrets.py), so control
waits for the workers' marks of these documents. Which function has not taken it over is said in the answer, and in its
condition (lags.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from rescoldo.cluster.acknowledgements import Acknowledgements
from rescoldo.cluster.lags import lag_text, refusals_text
from rescoldo.cluster.reports import Reports
from rescoldo.model.names import FunctionId

SHOWN = 10  # functions in one answer


class Secrets(Protocol):
    """The controller's secrets: the API's `Secrets`, and those that others change."""

    async def secrets(self, namespace: str) -> list[str]: ...

    async def save_secret(self, namespace: str, name: str, value: bytes, *, must_exist: bool) -> Sequence[str]: ...

    async def delete_secret(self, namespace: str, name: str) -> None: ...

    async def renew(self, namespace: str, name: str) -> None:
        """Bring a secret that others have changed to the functions that name it. Raises RolloutFailed."""
        ...


class AcknowledgedSecrets:
    """Implements `Secrets` for a control."""

    def __init__(
        self, secrets: Secrets, users: Callable[[str, str], Collection[FunctionId]],
        acknowledgements: Acknowledgements, reports: Reports,
    ) -> None:
        """`users` returns the functions of a namespace that name a secret."""
        self._secrets = secrets
        self._users = users
        self._acknowledgements = acknowledgements
        self._reports = reports

    async def secrets(self, namespace: str) -> list[str]:
        """See api.protocol.Secrets."""
        return await self._secrets.secrets(namespace)

    async def save_secret(self, namespace: str, name: str, value: bytes, *, must_exist: bool) -> Sequence[str]:
        """See api.protocol.Secrets. The notes name the workers that have not confirmed it within
        ACKNOWLEDGED_SECONDS, or refuse it."""
        found = [*await self._secrets.save_secret(namespace, name, value, must_exist=must_exist)]
        users = sorted(self._users(namespace, name))
        late = await self._acknowledgements.wait(users)
        for function in users:
            if pods := late.get(function):
                found.append(f"{function}: {lag_text(pods)}")
            elif refusals := self._reports.refused(function):
                found.append(f"{function}: {refusals_text(refusals)}")
        return found if len(found) <= SHOWN else [*found[:SHOWN], f"and {len(found) - SHOWN} more functions"]

    async def delete_secret(self, namespace: str, name: str) -> None:
        """See api.protocol.Secrets. No function names a secret that may be deleted, so no worker has it."""
        await self._secrets.delete_secret(namespace, name)

    async def renew(self, namespace: str, name: str) -> None:
        """Bring a secret that others have changed to the functions that name it. Nobody waits: conditions tell of
        workers that lag. Raises RolloutFailed."""
        await self._secrets.renew(namespace, name)
        for function in self._users(namespace, name):
            self._acknowledgements.ask(function)
