"""Slots on loan: which function each HAProxy backend serves now."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from rescoldo.edge.config import is_port_slot
from rescoldo.model.errors import Busy
from rescoldo.model.names import SlotName


@dataclass(slots=True)
class _Stock:
    free: deque[SlotName]
    lent: set[SlotName] = field(default_factory=set)

    @property
    def size(self) -> int:
        return len(self.free) + len(self.lent)


class SlotPool:
    """Lends each slot to one function at a time, the longest unused first. Programs at TCP ports use slots of a kind
    of their own.

    A slot comes back only when the edge has shown it to be quiet and without servers. The queue order then keeps
    it unused for as long as possible, so that a late request cannot meet the slot's next function.
    """

    def __init__(
        self,
        names: Iterable[SlotName],
        port_names: Iterable[SlotName] = (),
        on_scarce: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_scarce` is called at each loan while at most a tenth of the slots of its kind are free."""
        self._on_scarce = on_scarce
        self._stocks = {False: _Stock(deque(names)), True: _Stock(deque(port_names))}
        self._begun: dict[SlotName, int] = {}

    @property
    def free(self) -> int:
        """Free slots; `free` and `size` leave out the slots for programs at ports."""
        return len(self._stocks[False].free)

    @property
    def size(self) -> int:
        """Slots, lent or free."""
        return self._stocks[False].size

    def take(self, *, at_port: bool = False) -> SlotName:
        """Lend a slot. `at_port`: for a program at a TCP port. Raises Busy when all are lent."""
        kind = self._stocks[at_port]
        if len(kind.free) * 10 <= kind.size:
            self._on_scarce()
        if not kind.free:
            raise Busy("all slots of the edge are in use; the edge is being reloaded with more, try again")
        slot = kind.free.popleft()
        kind.lent.add(slot)
        return slot

    def claim(self, slot: SlotName) -> None:
        """Take a slot that is known to be in use, when adopting."""
        kind = self._stocks[is_port_slot(slot)]
        kind.free.remove(slot)
        kind.lent.add(slot)

    def begun(self, slot: SlotName) -> int:
        """Requests that the slot had begun when it last came back: the start of its counter in the next loan."""
        return self._begun.get(slot, 0)

    def give_back(self, slot: SlotName, begun: int = 0) -> None:
        """End a loan; `begun` is the slot's counter of requests."""
        self._begun[slot] = begun
        kind = self._stocks[is_port_slot(slot)]
        kind.lent.remove(slot)
        kind.free.append(slot)

    def add(self, names: Iterable[SlotName]) -> None:
        """Add the slots of a reloaded edge."""
        for slot in names:
            self._stocks[is_port_slot(slot)].free.append(slot)
