"""The supervisor's connection to its guardian: descriptors that outlive this process, and signs of life."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence

from rescoldo.model.settings import Settings
from rescoldo.supervisor.guardian import CONTROL, KEPT, MAX_MESSAGE

SETTINGS = "settings"  # a file in memory, which outlives a lost folder
MAX_SETTINGS = 65536  # bytes


def in_memory(settings: Settings) -> int:
    """Write the settings to a file in memory; return its descriptor. Raises OSError."""
    descriptor = os.memfd_create("rescoldo-settings")
    os.write(descriptor, settings.to_json().encode())
    return descriptor


class HeldDescriptors:
    """Descriptors by name, with copies in the guardian. Calls `on_loss` when the guardian is gone."""

    def __init__(self, control: socket.socket, table: Mapping[str, Sequence[int]]) -> None:
        self._control = control
        self._control.setblocking(False)
        self._table = {name: tuple(numbers) for name, numbers in table.items()}
        self.guardian = os.getppid()
        self.on_loss: Callable[[], None] = lambda: None

    @classmethod
    def inherited(cls) -> HeldDescriptors:
        """The descriptors that the guardian passed to this process."""
        control = socket.socket(fileno=int(os.environ.pop(CONTROL)))
        table: dict[str, list[int]] = json.loads(os.environ.pop(KEPT))
        # each child inherits only the descriptors of its part
        for number in [control.fileno(), *(number for numbers in table.values() for number in numbers)]:
            os.set_inheritable(number, False)
        return cls(control, table)

    @property
    def table(self) -> Mapping[str, tuple[int, ...]]:
        """All descriptors by name, in the order of `keep`."""
        return self._table

    def settings(self) -> Settings | None:
        """The platform's settings from `in_memory`; None when an earlier version of rescoldo started it."""
        if SETTINGS not in self._table:
            return None
        return Settings.from_json(os.pread(self._table[SETTINGS][0], MAX_SETTINGS, 0).decode())

    def keep(self, name: str, *descriptors: int) -> None:
        """Have the guardian hold copies under `name`, in place of earlier ones. The caller closes the originals."""
        self._table.pop(name, None)
        self._table[name] = descriptors
        self._send({"keep": name}, descriptors)

    def drop(self, name: str) -> None:
        """Have the guardian close the copies under `name`."""
        if self._table.pop(name, None) is not None:
            self._send({"drop": [name]})

    def beat(self) -> None:
        """Send a sign of life."""
        self._send({})

    def fileno(self) -> int:
        """The descriptor to poll. It is readable when the guardian has answered or is gone; then call `heard`."""
        return self._control.fileno()

    def heard(self) -> bool:
        """Take the guardian's answers; return False when it is gone."""
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
        except OSError:  # gone, or silent for so long that its socket is full
            self.on_loss()
