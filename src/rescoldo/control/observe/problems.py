"""What the platform has lost or cannot do now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from rescoldo.control.renewal import Renewal
from rescoldo.store.protocol import Store

log = logging.getLogger(__name__)


class Problems:
    """Gathers problems, each with its remedy."""

    def __init__(
        self, database: Path, store: Store, renewal: Renewal | None, others: Callable[[], Sequence[str]] = tuple
    ) -> None:
        """`others` returns problems that other parts know of."""
        self._others = others
        self._database = database
        self._store = store
        self._renewal = renewal
        self._loss = ""  # the loss found at the start; empty: none

    def tell_loss(self) -> None:
        """Report, for as long as this process runs, that the database was gone although bundles of its functions
        remained."""
        self._loss = (
            f"database {self._database}: it was missing or empty at the start, although functions were deployed here: "
            "functions, revisions, namespaces and counts are lost; deploy again, or stop rescoldo and restore a backup"
        )
        log.error("%s", self._loss)

    def now(self) -> list[str]:
        """The present problems; empty while all is well."""
        database = self._store.condition.problem
        found = [
            f"database {self._database}: {database}" if database else "",
            self._loss,
            self._renewal.problem if self._renewal is not None else "",
            *self._others(),
        ]
        return [*filter(None, found)]
