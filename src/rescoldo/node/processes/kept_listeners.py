"""Keeps listeners for forks beyond this node's death, in the buffer of a socket pair that the supervisor holds, too.

A function must not have its own listener, and the kernel fails the forks of a listener that nobody has. So a copy of
each lies in a message that nobody takes out. The next node looks at the messages (MSG_PEEK), which gives it copies.
"""

from __future__ import annotations

import array
import json
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rescoldo.handover import inherited

ENDS = ("forks_in", "forks_out")  # names of the pair's ends for `inherited`
_SO_PEEK_OFF = 42  # asm-generic/socket.h: each peek begins after the message that the last one showed
_TOGETHER = 200  # listeners in a message; the kernel passes at most 253 descriptors
_WASTE = 32  # messages more than needed before they are packed anew
_MESSAGE = 16384  # bytes; 200 keys take 5000

_LOG = logging.getLogger(__name__)


class Key(NamedTuple):
    """The main process of the instance that a listener is for."""

    pid: int
    started: int  # clock ticks since boot: tells the process from a later one of the same pid


class KeptListeners:
    """Copies of listeners by instance. `ends` are the pair's: what enters the first lies at the second."""

    def __init__(self, ends: tuple[socket.socket, socket.socket] | None = None) -> None:
        """Without `ends` the copies last as long as this process."""
        self._in, self._out = ends or make_pair()
        for end in (self._in, self._out):
            end.setblocking(False)
        self._kept: dict[Key, int] = {}
        self._messages = 0

    @classmethod
    def inherited(cls) -> KeptListeners:
        """Those of the pair that the supervisor handed to this process, if it did."""
        try:
            return cls((inherited(ENDS[0]), inherited(ENDS[1])))
        except KeyError:
            return cls()

    def keep(self, key: Key, descriptor: int) -> None:
        """Keep a copy of a listener until `drop`; the caller leaves the descriptor open until then."""
        self._kept[key] = descriptor
        self._send([key])
        if self._messages > len(self._kept) // _TOGETHER + _WASTE:
            self._pack()

    def drop(self, key: Key) -> None:
        """Let go of a copy, the next time that the messages are packed."""
        self._kept.pop(key, None)

    def regain(self) -> dict[Key, int]:
        """The listeners that earlier nodes have kept, as descriptors of this process. They are kept on."""
        self._out.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, 0)
        for keys, descriptors in self._peeked():
            for key, descriptor in zip(keys, descriptors, strict=False):
                if key in self._kept:  # a node was killed while it packed
                    os.close(descriptor)
                else:
                    self._kept[key] = descriptor
        self._out.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, -1)
        return dict(self._kept)

    def close(self) -> None:
        """Let go of the pair; the copies go with its last descriptor."""
        for end in (self._in, self._out):
            end.close()

    def _peeked(self) -> Iterator[tuple[list[Key], Sequence[int]]]:
        while True:
            try:
                flags = socket.MSG_PEEK | socket.MSG_CMSG_CLOEXEC
                message, rights, _, _ = self._out.recvmsg(_MESSAGE, socket.CMSG_SPACE(4 * _TOGETHER), flags)
            except BlockingIOError:
                return
            self._messages += 1
            yield [Key(*key) for key in json.loads(message)], [fd for _, _, data in rights for fd in _numbers(data)]

    def _pack(self) -> None:
        """Send what is still kept in as few messages as possible, and take out the others. A copy is always there."""
        old, keys = self._messages, list(self._kept)
        if all(self._send(keys[at : at + _TOGETHER]) for at in range(0, len(keys), _TOGETHER)):
            for _ in range(old):
                self._out.recv(1)  # without room for descriptors: the kernel closes them
            self._messages -= old

    def _send(self, keys: Sequence[Key]) -> bool:
        try:
            socket.send_fds(self._in, [json.dumps(keys).encode()], [self._kept[key] for key in keys])
        except OSError as error:  # such an instance is replaced after this node's death (`Adoption`)
            _LOG.warning("cannot keep a listener for forks: %s", error)
            return False
        self._messages += 1
        return True


def make_pair() -> tuple[socket.socket, socket.socket]:
    """A pair for `KeptListeners`."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _numbers(data: bytes) -> array.array[int]:
    numbers = array.array("i")
    numbers.frombytes(data[: len(data) // numbers.itemsize * numbers.itemsize])
    return numbers
