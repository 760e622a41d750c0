"""The documents that a worker knows, in memory and in a folder, so that its next controller goes on without control.

The folder is a cache: it may be lost, and what it says is compared with control's versions before it counts as
confirmed (documents.py). A document that cannot be read is forgotten and asked for again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from rescoldo.durable import PARTIAL, replace_text
from rescoldo.model.deployed import Deployed, from_json, to_json
from rescoldo.model.errors import InvalidInput
from rescoldo.model.names import FunctionId

_LOG = logging.getLogger(__name__)


class KnownDocuments:
    """One file a function: FOLDER/NAME.NAMESPACE.json. A write that fails costs the next controller a look-up."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[FunctionId, Deployed] = {}

    def load(self) -> None:
        """Read the folder, and forget half-written files. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for partial in self._folder.glob(f"*{PARTIAL}"):
            partial.unlink()
        for path in self._folder.iterdir():
            try:
                found = from_json(json.loads(path.read_text()))
            except (ValueError, KeyError, TypeError, AttributeError, InvalidInput):
                path.unlink()
            else:
                self._known[found.id] = found

    def __iter__(self) -> Iterator[Deployed]:
        """The documents, sorted by id."""
        return iter([self._known[key] for key in sorted(self._known)])

    def documents(self) -> Iterable[Deployed]:
        """The documents in any order, for as long as none is kept or forgotten."""
        return self._known.values()

    def get(self, function: FunctionId) -> Deployed | None:
        """Return a document; None if it is not known."""
        return self._known.get(function)

    def keep(self, document: Deployed) -> Deployed:
        """Keep the later of a document and the one that is known; return it."""
        known = self._known.get(document.id)
        if known is not None and known.version >= document.version:
            return known
        self._known[document.id] = document
        path = self._path(document.id)
        try:
            replace_text(path, json.dumps(to_json(document)))
        except OSError as error:
            _LOG.warning("cannot keep %s for the next controller: %s", path, error)
        return document

    def forget(self, function: FunctionId) -> None:
        """Forget a document; an unknown one is no error."""
        if self._known.pop(function, None) is not None:
            self._path(function).unlink(missing_ok=True)

    def _path(self, function: FunctionId) -> Path:
        return self._folder / f"{function}.json"
