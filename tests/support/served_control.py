"""A control in memory behind the real link, for tests of workers."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rescoldo.api.link import create_link
from rescoldo.api.server import MutualTls, PeerServer
from rescoldo.link.fake import MemoryControl
from rescoldo.link.protocol import Archive, Control
from rescoldo.model.errors import InvalidInput
from support.certificates import Authority
from support.worker import POOL_SECRET

T = TypeVar("T")
POOL = "rescoldo://pool/openfaas-fn"


class ServedControl:
    """Runs in a thread of its own; `ask` calls something there."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.memory = MemoryControl()
        self.peers: list[tuple[str, ...]] = []  # the names in the certificate of each request's client
        self._own = self.authority.pair("control", "IP:127.0.0.1")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()

    def identity(self, folder: Path, also: str = "") -> Path:
        """Make a worker's identity in `folder`, another one each time; `also` is a further name in it."""
        pair = self.authority.pair("worker", f"URI:{POOL}{also and f',URI:{also}'}")
        folder.mkdir(exist_ok=True)
        for name, source in (
            ("tls.crt", pair.certificate), ("tls.key", pair.key), ("ca.crt", self.authority.root.certificate)
        ):  # fmt: skip
            (folder / name).write_bytes(source.read_bytes())
        (folder / "pool-secret").write_text(f"{POOL_SECRET}\n")
        return folder

    def put(self, kind: Archive, data: bytes) -> str:
        """Store an archive; return its digest."""
        digest = hashlib.sha256(data).hexdigest()
        self.memory.archives[kind, digest] = data
        return digest

    def ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """Run a call of the memory in its thread."""

        async def run() -> T:
            return await call()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(20)

    @contextmanager
    def serving(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self.memory.leave)
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join()

    def _run(self) -> None:
        tls = MutualTls(self._own.certificate, self._own.key, self.authority.root.certificate)
        self._loop.run_until_complete(PeerServer(create_link(self._control_of), tls).serve(self._listener, self._stop))
        self._loop.close()

    def _control_of(self, uris: Sequence[str]) -> Control:
        self.peers.append(tuple(uris))
        if POOL not in uris:
            raise InvalidInput("this certificate is of no pool here")
        return self.memory
