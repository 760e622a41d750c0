"""Flow control: how fast a connection is read and written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class FlowControl:
    """Reads no faster than requests are answered; reports when a slow client has room again."""

    __slots__ = ("_on_writable", "_paused", "_transport", "writable")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._paused = False  # reading is paused
        self._on_writable: Callable[[], None] | None = None
        self.writable = True

    def pace_reading(self, *, behind: bool) -> None:
        """Pause reading while requests wait (`behind`) or the client does not read; resume it otherwise."""
        if (behind or not self.writable) != self._paused and not self._transport.is_closing():
            self._paused = not self._paused
            if self._paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self.writable = False

    def resume_writing(self) -> None:
        """See asyncio.Protocol. Also called when the client is gone, so that nothing waits for it."""
        self.writable = True
        callback, self._on_writable = self._on_writable, None
        if callback is not None:
            callback()

    def when_writable(self, callback: Callable[[], None]) -> None:
        """See calls.protocol.Client."""
        if self.writable or self._transport.is_closing():
            callback()
        else:
            self._on_writable = callback
