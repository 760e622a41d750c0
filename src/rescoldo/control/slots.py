"""Slots on loan: which HAProxy backend belongs to which function now."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from rescoldo.model.errors import Busy
from rescoldo.model.names import SlotName


class SlotPool:
    """Lends each slot to one function at a time, the longest unused first.

    A slot comes back only when the edge has shown it to be quiet and without servers; the queue order
    then keeps it unused for as long as possible, so that a late request cannot meet its next function.
    """

    def __init__(self, names: Iterable[SlotName], on_scarce: Callable[[], None] = lambda: None) -> None:
        """`on_scarce` is called at each loan while less than a tenth is left."""
        self._on_scarce = on_scarce
        self._free = deque(names)
        self._lent: set[SlotName] = set()
        self._begun: dict[SlotName, int] = {}

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def size(self) -> int:
        return len(self._free) + len(self._lent)

    def take(self) -> SlotName:
        """Raises Busy when all are lent."""
        if self.free * 10 <= self.size:
            self._on_scarce()
        if not self._free:
            raise Busy("all slots of the edge are in use; more are being made, try again")
        slot = self._free.popleft()
        self._lent.add(slot)
        return slot

    def claim(self, slot: SlotName) -> None:
        """Take one that is known to be in use, when adopting."""
        self._free.remove(slot)
        self._lent.add(slot)

    def begun(self, slot: SlotName) -> int:
        """Requests that the slot had begun when it last came back: what its counter begins with in the next loan."""
        return self._begun.get(slot, 0)

    def give_back(self, slot: SlotName, begun: int = 0) -> None:
        """`begun` is the slot's counter of requests."""
        self._begun[slot] = begun
        self._lent.remove(slot)
        self._free.append(slot)

    def add(self, names: Iterable[SlotName]) -> None:
        self._free.extend(names)
