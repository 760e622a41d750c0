"""Keys, certificates and proofs of a cluster's parts: made by control, kept in Secrets, renewed in time.

| Secret | where | what |
|---|---|---|
| rescoldo-authority | control's namespace | the authority that signs all certificates |
| rescoldo-login | control's namespace | user and password of the API, the secret of builds |
| rescoldo-pools | control's namespace | by namespace what a gateway says to its workers |
| rescoldo-control-keys | control's namespace | what control says to gateways |
| rescoldo-identity | each namespace with functions | certificate of its workers, the authority, what gateways say |

What is stored counts, whoever has written it; what control has in memory fills in for a Secret that was deleted. So
whoever wants other keys deletes a Secret while no control runs; a login that is changed counts from control's next
start. A watch tells of each change: a deleted Secret is there again within a second, and within RETRY_SECONDS where a
right or a namespace was missing. At rest a namespace costs one request each 30 s (kube/protocol.py), and a few once in
CHECK_SECONDS, when certificates are looked at.

Another proof for a pool, without a call that is refused: add it as a second line to `pool-secret` of the identity, wait
until all workers have the file (kubelet takes up to two minutes), then write it into rescoldo-pools. Workers accept the
one before until their certificate is renewed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rescoldo.cluster.identities_files import ControlFiles
from rescoldo.cluster.identities_kept import SELECTOR, keep
from rescoldo.cluster.identities_system import SystemSecrets
from rescoldo.cluster.identities_wanted import IDENTITY, client_files, identity_wanted, login_of
from rescoldo.kube.follow import Follower
from rescoldo.kube.protocol import Cluster, Object
from rescoldo.kube.secrets import SECRETS
from rescoldo.model.errors import RescoldoError
from rescoldo.tasks import set_within

log = logging.getLogger(__name__)

CHECK_SECONDS = 3600.0  # between two looks at all Secrets
RETRY_SECONDS = 50.0  # between two looks while something is wrong
PAUSE_SECONDS = 0.5  # after a look: whoever changes a Secret of ours again and again keeps nobody busy


@dataclass(frozen=True, slots=True)
class ControlIdentity:
    """What control is started with."""

    certificate: Path  # with the key: a reader never sees one without the other
    authority: Path
    user: str = field(repr=False)
    password: str = field(repr=False)
    payload_secret: bytes = field(repr=False)  # of builds


class Identities:
    """Keeps the Secrets of a cluster: `prepare` at control's start, then `run`."""

    def __init__(
        self,
        cluster: Cluster,
        system: str,
        namespaces: Sequence[str],
        folder: Path,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`system`: control's namespace; `namespaces`: those that hold functions; `folder` gets control's key, so it
        should be memory; `clock`: Unix seconds."""
        self._cluster, self._system, self._namespaces = cluster, system, tuple(dict.fromkeys(namespaces))
        self._clock = clock
        self._secrets = SystemSecrets(cluster, system, self._namespaces, clock)
        self._files = ControlFiles(folder, system)
        self._problems: dict[tuple[str, str], str] = {}  # by namespace and Secret
        self._due: set[str] = set()  # namespaces in which a change was told
        self._news = asyncio.Event()

    @property
    def problems(self) -> Sequence[str]:
        """What is wrong at the moment, with the remedies."""
        return tuple(self._problems.values())

    @property
    def control_key(self) -> str:
        """What control says to gateways now."""
        return self._secrets.control_key

    def issue(self, uri: str) -> Mapping[str, bytes]:
        """A certificate for a client with this URI, its key and the authority, as files. Raises InvalidInput for an
        authority that has ended."""
        return client_files(uri, self._secrets.authority, self._clock())

    async def prepare(self) -> ControlIdentity:
        """Make or read all Secrets, and write control's files. A namespace that cannot have its Secret is a problem;
        for the Secrets in control's own the error is raised, see `keep` in identities_kept.py."""
        for check in self._secrets.checks.values():
            await check()
        await self._note(self._system, "the authority's end", self._secrets.check_end)
        await self._check_identities(self._namespaces)
        self._files.write(self._secrets.authority, self._clock())
        user, password, payload = login_of(self._secrets.login)
        return ControlIdentity(self._files.certificate, self._files.authority, user, password, payload.encode())

    async def run(self, on_renewal: Callable[[], None] = lambda: None) -> None:
        """Repair and renew, until cancelled. `on_renewal` is called when control's files have been replaced."""
        async with asyncio.TaskGroup() as tasks:
            for place in dict.fromkeys([self._system, *self._namespaces]):
                tasks.create_task(self._follow(place), name=f"follow identities in {place}")
            tasks.create_task(self._keep(on_renewal), name="keep identities")

    async def _follow(self, place: str) -> None:
        follower = Follower(self._cluster, SECRETS, _nothing, namespace=place, labels=SELECTOR)
        async with aclosing(follower.changes()) as changes:
            async for _ in changes:
                self._due.add(place)
                self._news.set()

    async def _keep(self, on_renewal: Callable[[], None]) -> None:
        while True:
            told = await set_within(self._news, RETRY_SECONDS if self._problems else CHECK_SECONDS)
            self._news.clear()
            due, self._due = self._due, set()
            await self._check(due if told else {self._system, *self._namespaces})
            await self._note(self._system, "control's certificate", partial(self._renew_files, on_renewal))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _check(self, places: Collection[str]) -> None:
        """Look at the Secrets in some namespaces; those in control's own say what belongs in all others."""
        if self._system in places:
            for name, check in self._secrets.checks.items():
                await self._note(self._system, name, check)
            await self._note(self._system, "the authority's end", self._secrets.check_end)
            places = self._namespaces
        await self._check_identities(places)

    async def _check_identities(self, places: Collection[str]) -> None:
        for namespace in self._namespaces:
            if namespace in places:
                await self._note(namespace, IDENTITY, partial(self._check_identity, namespace))

    async def _check_identity(self, namespace: str) -> None:
        pool = self._secrets.pool(namespace)
        now, authority = self._clock(), self._secrets.authority
        await keep(
            self._cluster, namespace, IDENTITY,
            lambda values, _: identity_wanted(values, namespace, authority, pool, now),
        )  # fmt: skip

    async def _note(self, namespace: str, name: str, check: Callable[[], Awaitable[None]]) -> None:
        """Make a check, and note what is wrong: one Secret does not keep the others from theirs."""
        problem, before = "", self._problems.pop((namespace, name), "")
        try:
            await check()
        except RescoldoError as error:
            problem = self._problems[namespace, name] = error.message
        if problem and problem != before:
            log.error("%s/%s is not as it should be: %s", namespace, name, problem)
        elif before and not problem:
            log.warning("%s/%s is as it should be again", namespace, name)

    async def _renew_files(self, on_renewal: Callable[[], None]) -> None:
        if self._files.write(self._secrets.authority, self._clock()):
            on_renewal()


def _nothing(_: Object) -> None:
    """What is told of a change: that it happened."""
