"""How control reaches the worker that owns a function. `GatewayOwners` (owners.py) does it through a gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from rescoldo.model.errors import Busy
from rescoldo.model.names import FunctionId

MOST_TEXT = 2000


class NoOwner(Busy):
    """No worker answers for the function."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request about a function."""

    function: FunctionId
    method: str
    target: str  # path with query
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """An owner's answer."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    chunks: AsyncIterator[bytes]

    async def text(self) -> str:
        """Read the answer to its end, and return its first MOST_TEXT bytes as text: what a refusal says."""
        found = bytearray()
        async for chunk in self.chunks:
            found += chunk[: MOST_TEXT - len(found)]
        return found.decode(errors="replace").strip()


class Owners(Protocol):
    """Reaches functions' owners: whoever they are."""

    def ask(self, asked: Asked) -> AbstractAsyncContextManager[Answered]:
        """Send a request to its function's owner. Raises NoOwner if none answers within its patience."""
        ...
