"""The Secrets of one namespace that functions may name, in memory, kept true by a watch.

Memory has what the watch has told, and nothing else: what control writes itself is told by the watch, too, a few
milliseconds before or after the API server's answer. Until then the name is `Written`, and whoever asks for it is sent
to the API server. One that the watch never tells, as it was interrupted and the Secret has changed again, is asked for
during WRITTEN_SECONDS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from functools import partial

from rescoldo.cluster.secret_objects import SELECTOR, Stored, read_secret
from rescoldo.cluster.secrets_told import ToldSecrets
from rescoldo.kube.follow import Changed, Follower, Snapshot
from rescoldo.kube.protocol import Cluster
from rescoldo.kube.secrets import SECRETS

MOST_KEPT = 16 * 1024  # bytes of one value; a chain of certificates has less. 1000 secrets have 16 MB at most
WRITTEN_SECONDS = 60.0  # a watch that is silent for 40 s is opened again (kube/protocol.py)
GONE = b""  # the mark of a secret that control deletes


@dataclass(frozen=True, slots=True)
class Written:
    """What control has saved or deleted, as of its object's `version`."""

    uid: str
    version: int
    mark: bytes = field(repr=False)
    at: float  # on the loop's clock


@dataclass(frozen=True, slots=True)
class _Writing:
    """A change by control that is under way."""

    mark: bytes = field(repr=False)
    gone: set[str] = field(default_factory=set)  # uids of objects that the watch has told to be gone meanwhile


class FollowedSecrets:
    """Knows a namespace's secrets once it has listed them. `news` is called with the name of each that others make,
    remove or give another value."""

    def __init__(
        self, cluster: Cluster, namespace: str, news: Callable[[str], None], told: ToldSecrets | None = None
    ) -> None:
        """`told`: what earlier controls have told; whoever hears of news calls `close` when it is done with it."""
        self._follower = Follower(
            cluster, SECRETS, partial(read_secret, most=MOST_KEPT), namespace=namespace, labels=SELECTOR
        )
        self._namespace, self._news = namespace, news
        self._told = told or ToldSecrets(None)
        self._known: dict[str, Stored] | None = None
        self._writing: dict[str, _Writing] = {}  # by name
        self._written: dict[str, Written] = {}  # by name

    @property
    def problem(self) -> str:
        """Why nothing is heard from the API server at the moment; empty: it is heard."""
        return self._follower.problem

    async def run(self) -> None:
        """Follow, until cancelled."""
        async with aclosing(self._follower.changes()) as changes:
            async for change in changes:
                if isinstance(change, Snapshot):
                    self._begin(change.objects)
                elif isinstance(change, Changed):
                    self._take(change.object)
                else:
                    self._drop(change.name, change.uid)

    def names(self) -> list[str] | None:
        """The names of all, sorted; None while they are to be asked for."""
        written = [name for name in tuple(self._written) if self._is_written(name)]
        return None if self._known is None or written else sorted(self._known)

    def get(self, name: str) -> Stored | None:
        """A secret; None for one that is not known here, and is to be asked for."""
        return None if self._known is None or self._is_written(name) else self._known.get(name)

    @contextmanager
    def writing(self, name: str, mark: bytes) -> Iterator[None]:
        """What the watch tells of this name and mark during the block is no news."""
        self._writing[name] = _Writing(mark)
        try:
            yield
        finally:
            self._writing.pop(name, None)

    def wrote(self, name: str, uid: str, version: int) -> None:
        """Note, before the end of `writing`, which object control has saved or deleted. `version` of a deleted one is
        its last."""
        if self._known is None:
            return
        writing, known = self._writing[name], self._known.get(name)
        saved_is_told = known is not None and known.version >= version
        if not (uid in writing.gone if writing.mark == GONE else saved_is_told):
            self._written[name] = Written(uid, version, writing.mark, asyncio.get_running_loop().time())

    def close(self, name: str) -> None:
        """Note that the present version of a secret was told."""
        known = (self._known or {}).get(name)
        self._told.close(self._namespace, name, None if known is None else known.version)

    def _is_written(self, name: str) -> bool:
        """Whether the watch has still to tell what control has done to a secret."""
        written = self._written.get(name)
        if written is not None and asyncio.get_running_loop().time() - written.at > WRITTEN_SECONDS:
            del self._written[name]
            return False
        return written is not None

    def _begin(self, secrets: Iterable[Stored]) -> None:
        self._known = {one.name: one for one in secrets}
        for name in self._told.begin(self._namespace, {one.name: one.version for one in self._known.values()}):
            self._tell(name)

    def _tell(self, name: str) -> None:
        self._told.open(self._namespace, name)
        self._news(name)

    def _own(self, name: str) -> tuple[Written | None, _Writing | None]:
        return self._written.get(name), self._writing.get(name)

    def _take(self, stored: Stored) -> None:
        assert self._known is not None  # the snapshot comes first
        known, written, writing = self._known.get(stored.name), *self._own(stored.name)
        self._known[stored.name] = stored
        before = known.mark if known is not None else None
        if written is not None:
            if stored.version < written.version or (stored.version == written.version and written.mark == GONE):
                return  # from before control's own change
            del self._written[stored.name]
            before = written.mark
        if stored.mark != before and not (writing is not None and writing.mark == stored.mark):
            self._tell(stored.name)
        else:
            self._told.skip(self._namespace, stored.name, stored.version)

    def _drop(self, name: str, uid: str) -> None:
        assert self._known is not None
        self._known.pop(name, None)
        written, writing = self._own(name)
        if writing is not None:
            writing.gone.add(uid)
        if written is not None:
            if written.uid != uid:
                return  # an earlier object than the one that control has made
            del self._written[name]
        if any(one is not None and one.mark == GONE for one in (written, writing)):
            self._told.skip(self._namespace, name, None)
        else:
            self._tell(name)
