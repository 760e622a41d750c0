"""Makes and checks HTTP calls over asyncio streams, for clients in processes of their own."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import Any

TIMEOUT = 60.0  # seconds for one call


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    cold: bool
    body: str


class Caller:
    """Calls functions of one gateway, over one persistent connection or over a new connection for each call."""

    def __init__(self, port: int, *, keep: bool) -> None:
        self._port = port
        self._keep = keep
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, method: str, name: str) -> Answer:
        """Make one call. Raises OSError, EOFError or TimeoutError if the response is incomplete."""
        async with asyncio.timeout(TIMEOUT):
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            whole = False
            try:
                length = "Content-Length: 0\r\n" if method == "POST" else ""
                writer.write(f"{method} /function/{name} HTTP/1.1\r\nHost: bench\r\n{length}\r\n".encode())
                answer, closed = await _read(reader)
                whole = not closed
                return answer
            finally:
                if not whole or not self._keep:
                    self.close()

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _read(reader: asyncio.StreamReader) -> tuple[Answer, bool]:
    """Read a response; return it and whether the server closes the connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    if "content-length" not in fields:
        raise EOFError(f"an answer without a length: {head}")
    body = await reader.readexactly(int(fields["content-length"]))
    answer = Answer(int(head[0].split()[1]), fields.get("x-cold-start") == "true", body.decode(errors="replace"))
    return answer, fields.get("connection", "").lower() == "close"


def request() -> Any:
    """Read this process's task from standard input."""
    return json.load(sys.stdin)


def report(answer: Any) -> None:
    json.dump(answer, sys.stdout)
