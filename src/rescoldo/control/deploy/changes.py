"""Serialises the changes of a function; otherwise store and fleet could end with different deployments."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from rescoldo.model.names import FunctionId


class Changes:
    """A lock for each function that is being changed."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[FunctionId, asyncio.Lock] = WeakValueDictionary()

    def of(self, function: FunctionId) -> asyncio.Lock:
        """The lock of a function; hold it during a change."""
        return self._locks.setdefault(function, asyncio.Lock())
