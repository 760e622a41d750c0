"""The supervisor's end of its guardian: descriptors that outlive this process, and signs of life."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence

from rescoldo.model.settings import Settings
from rescoldo.supervisor.guardian import CONTROL, KEPT, MAX_MESSAGE

SETTINGS = "settings"  # where no folder that is lost takes them away
MAX_SETTINGS = 65536  # bytes


def in_memory(settings: Settings) -> int:
    """A descriptor of a file in memory with the settings. Raises OSError."""
    descriptor = os.memfd_create("rescoldo-settings")
    os.write(descriptor, settings.to_json().encode())
    return descriptor


class HeldDescriptors:
    """Descriptors by name, of which the guardian holds copies. `on_loss` is called when the guardian is gone."""

    def __init__(self, control: socket.socket, table: Mapping[str, Sequence[int]]) -> None:
        self._control = control
        self._control.setblocking(False)
        self._table = {name: tuple(numbers) for name, numbers in table.items()}
        self.guardian = os.getppid()
        self.on_loss: Callable[[], None] = lambda: None

    @classmethod
    def inherited(cls) -> HeldDescriptors:
        """What the guardian that started this process handed to it."""
        control = socket.socket(fileno=int(os.environ.pop(CONTROL)))
        table: dict[str, list[int]] = json.loads(os.environ.pop(KEPT))
        for number in [control.fileno(), *(number for numbers in table.values() for number in numbers)]:
            os.set_inheritable(number, False)
        return cls(control, table)

    @property
    def table(self) -> Mapping[str, tuple[int, ...]]:
        """All there are, in the order in which they were kept."""
        return self._table

    def settings(self) -> Settings | None:
        """The platform's, as `in_memory` has kept them; None where an earlier version started it."""
        if SETTINGS not in self._table:
            return None
        return Settings.from_json(os.pread(self._table[SETTINGS][0], MAX_SETTINGS, 0).decode())

    def keep(self, name: str, *descriptors: int) -> None:
        """Have copies held under `name`, instead of those it had. The originals stay the caller's to close."""
        self._table.pop(name, None)
        self._table[name] = descriptors
        self._send({"keep": name}, descriptors)

    def drop(self, name: str) -> None:
        """Have the copies under `name` closed."""
        if self._table.pop(name, None) is not None:
            self._send({"drop": [name]})

    def beat(self) -> None:
        """Say that this process lives."""
        self._send({})

    def fileno(self) -> int:
        """Readable when the guardian has answered, or is gone; then call `heard`."""
        return self._control.fileno()

    def heard(self) -> bool:
        """Take the guardian's answers; False when it is gone."""
        with contextlib.suppress(BlockingIOError):
            try:
                while self._control.recv(MAX_MESSAGE):
                    pass
            except ConnectionError:
                pass
            return False
        return True

    def _send(self, order: Mapping[str, object], descriptors: Sequence[int] = ()) -> None:
        try:
            socket.send_fds(self._control, [json.dumps(order).encode()], descriptors)
        except OSError:  # gone, or so long silent that it takes nothing any more
            self.on_loss()
