"""Where a controller keeps its functions: on its own machine, or in the control of the cluster whose worker it is."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rescoldo.bundle.protocol import Bundles, Elsewhere
from rescoldo.model.settings import Settings
from rescoldo.store.protocol import Secrets, Store
from rescoldo.store.secretfiles import SecretFiles
from rescoldo.store.sqlite.keeper import is_empty
from rescoldo.store.sqlite.store import SqliteStore

if TYPE_CHECKING:  # the link would cost the start of a platform that stands alone 8 ms
    from rescoldo.link.membership import Membership

Loop = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Backing:
    """A store with what belongs to it. `close` it after the store."""

    store: Store
    secrets: Secrets
    elsewhere: Elsewhere | None = None
    membership: Membership | None = None  # of a cluster
    lost: bool = False  # the database is gone, though bundles are there
    loops: Mapping[str, Loop] = field(default_factory=dict)  # to be run for as long as the controller
    opened: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def close(self) -> None:
        """End the connections."""
        await self.opened.aclose()


async def own_backing(settings: Settings, bundles: Bundles) -> Backing:
    """Open the store of a platform that stands alone. Raises StoreError."""
    lost = bool(bundles.digests()) and is_empty(settings.database)  # before the store opens and creates the file
    store = await SqliteStore.open(settings.database, copy=settings.store_copy)
    secrets = SecretFiles(settings.function_secrets)
    return Backing(store, secrets, lost=lost and not store.condition.rewritten)
