"""Lends pools to namespaces: HAProxy makes no backend at run time, so the configuration holds anonymous ones."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

from rescoldo.gateway.servers import PoolName

log = logging.getLogger(__name__)


class Lending:
    """Says which namespace has which pool. A namespace keeps its pool when its last worker ends: its calls get 503, as
    its next worker may be on its way. The pool goes to another namespace only when no other pool is free."""

    def __init__(self, pools: Sequence[PoolName], lent: Mapping[str, str]) -> None:
        """`lent` is what an earlier agent has left; pools that are no more are forgotten."""
        self._pools = pools
        known = set(pools)
        self._lent = {namespace: PoolName(pool) for namespace, pool in lent.items() if pool in known}
        self._refused: set[str] = set()

    def lend(self, namespaces: Collection[str], busy: Collection[PoolName]) -> dict[str, PoolName]:
        """Return the pool of each namespace, those without workers included. `namespaces` have workers; the pools
        `busy` have servers, perhaps of a namespace that had them before: they are lent to no other namespace."""
        for namespace in sorted(set(namespaces) - self._lent.keys()):
            pool = self._free(busy) or self._reclaim(namespaces, busy)
            if pool is not None:
                self._lent[namespace] = pool
        self._tell(set(namespaces) - self._lent.keys())
        return dict(self._lent)

    def _free(self, busy: Collection[PoolName]) -> PoolName | None:
        taken = {*self._lent.values(), *busy}
        return next((pool for pool in self._pools if pool not in taken), None)

    def _reclaim(self, namespaces: Collection[str], busy: Collection[PoolName]) -> PoolName | None:
        """Take a pool from the namespace that has it for longest, of those without workers."""
        for namespace, pool in self._lent.items():
            if namespace not in namespaces and pool not in busy:
                return self._lent.pop(namespace)
        return None

    def _tell(self, refused: set[str]) -> None:
        for namespace in sorted(refused - self._refused):
            log.error(
                "namespace %s gets no calls: all %d pools are lent; raise the gateway's number of pools",
                namespace, len(self._pools),
            )  # fmt: skip
        self._refused = refused
