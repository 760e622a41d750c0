"""A witness, outside of the cluster, of what functions in it do."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

HOST = "10.213.0.1"  # this machine, as pods reach it: HOST_IP of the command that makes clusters
SO_RCVBUFFORCE = 33  # asm-generic/socket.h: root may have a larger buffer than the machine's most
BUFFER = 8 << 20  # bytes, so that a busy machine drops nothing
PATIENCE = 10.0  # seconds until the witness has heard itself

# Functions find its address in the variable `witness`. This one says the body of each POST, so that a call that runs
# twice is heard twice.
SPEAKS = (
    "import os, socket\n"
    "host, port = os.environ['witness'].split(':')\n"
    "said = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    "said.connect((host, int(port)))\n"
    "def handle(event, context):\n"
    "    if event.method == 'POST':\n"
    "        said.send(event.body)\n"
    "    return 'done'\n"
)


@dataclass(frozen=True, slots=True)
class Said:
    """What a function said, and the address of its pod."""

    pod: str
    text: str


class Witness:
    """Hears what functions say in datagrams, which nothing repeats, while its `with` block runs."""

    def __init__(self) -> None:
        self._heard: list[Said] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self._socket.bind((HOST, 0))
        self._listening = threading.Thread(target=self._listen, name="witness")

    def __enter__(self) -> Witness:
        self._listening.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._say("")
        self._listening.join()
        self._socket.close()

    @property
    def address(self) -> str:
        """HOST:PORT, for functions."""
        return f"{HOST}:{self._socket.getsockname()[1]}"

    def heard(self) -> Sequence[Said]:
        """Return all that was said before this call, in the order of arrival."""
        mark = Said(HOST, uuid.uuid4().hex)
        self._say(mark.text)
        deadline = time.monotonic() + PATIENCE
        while mark not in self._heard:
            assert time.monotonic() < deadline, "the witness does not hear itself"
            time.sleep(0.01)
        return [said for said in self._heard if said.pod != HOST]

    def _say(self, text: str) -> None:
        self._socket.sendto(text.encode(), self._socket.getsockname())

    def _listen(self) -> None:
        while True:
            data, (address, _) = self._socket.recvfrom(1000)
            if not data:
                return
            self._heard.append(Said(address, data.decode()))
