"""A `Control` over HTTP/1.1 with mutual TLS.

It keeps its connections, so that the look-up of a first call is one exchange and no handshake.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Any
from urllib.parse import quote

import httpx2

from rescoldo import __version__
from rescoldo.link.protocol import HEARTBEAT_SECONDS, Archive, Change, Counts, Delivery, Report, Unreachable
from rescoldo.link.wire import (
    decode_change,
    decode_delivery,
    decode_grant,
    decode_image,
    decode_secrets,
    encode_counts,
    encode_report,
)
from rescoldo.model.deployed import Deployed, to_json
from rescoldo.model.errors import InvalidInput, NotFound, RescoldoError, Superseded
from rescoldo.model.names import FunctionId
from rescoldo.policy.grants import Grant
from rescoldo.store.protocol import Bundle

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 10.0
# To control, all of them kept. With 64, of which 8 were kept, a new worker that fetches 150 functions at once made a
# TLS handshake for nearly every request.
CONNECTIONS = 16
MOST_TEXT = 500  # characters of an error's text
MOST_ANSWER = 64 * 2**20  # bytes of an answer that is read as a whole: a function with its secrets, all versions
LINK = "/link"


class ControlClient:
    """Speaks to the control at `url`. `close` ends its connections."""

    def __init__(self, url: str, tls: SSLContext | None) -> None:
        """`tls` has this worker's certificate and the authority that control's is from; None: plain HTTP, for tests."""
        self._url = url
        self._http = _connections(url, tls)
        self._users = Counter[httpx2.AsyncClient]()  # requests under way, by what they use

    async def renew(self, tls: SSLContext) -> None:
        """Make new connections with `tls`. The present ones end with their requests; a stream of changes ends with
        Unreachable after its next line."""
        before, self._http = self._http, _connections(self._url, tls)
        if before not in self._users:
            await before.aclose()

    async def close(self) -> None:
        """End all connections."""
        for http in {self._http, *self._users}:
            await http.aclose()

    async def deliver(self, function: FunctionId) -> Delivery | None:
        found = await self._ask("GET", f"/functions/{_part(function)}", missing=True)
        return None if found is None else decode_delivery(found)

    async def versions(self) -> dict[FunctionId, int]:
        found = await self._ask("GET", "/functions")
        if not isinstance(found, dict):
            raise InvalidInput("the versions of functions cannot be read")
        return {FunctionId(name): int(version) for name, version in found.items()}

    async def changes(self) -> AsyncIterator[Change | None]:
        http = self._http
        async with self._answer("GET", "/changes", read=3 * HEARTBEAT_SECONDS) as answer:
            async for line in answer.aiter_lines():
                yield decode_change(line)
                if self._http is not http:
                    raise Unreachable("this worker has another certificate: it follows control anew")
        raise Unreachable

    async def put(self, document: Deployed) -> int:
        found = await self._ask("PUT", f"/functions/{_part(document.id)}", to_json(document))
        return int(found["version"])

    async def delete(self, function: FunctionId) -> None:
        await self._ask("DELETE", f"/functions/{_part(function)}")

    async def image(self, image: str) -> tuple[Bundle, str] | None:
        found = await self._ask("GET", f"/images/{_part(image)}", missing=True)
        return None if found is None else decode_image(found)

    async def secrets(self, names: Collection[str]) -> dict[str, bytes]:
        return decode_secrets(await self._ask("POST", "/secrets", sorted(names)))

    async def archive(self, kind: Archive, digest: str) -> AsyncIterator[bytes]:
        async with self._answer("GET", f"/{kind}/{_part(digest)}") as answer:
            async for chunk in answer.aiter_bytes():
                yield chunk

    async def count(self, counts: Counts) -> None:
        await self._ask("POST", "/counts", encode_counts(counts))

    async def report(self, report: Report) -> None:
        await self._ask("POST", "/reports", encode_report(report))

    async def grant(self, function: FunctionId, sender: str) -> Grant:
        return decode_grant(await self._ask("POST", "/grants", {"function": function, "sender": sender}))

    async def give_back(self, function: FunctionId, sender: str, token: str) -> None:
        await self._ask("POST", "/grants/back", {"function": function, "sender": sender, "token": token})

    async def _ask(self, method: str, path: str, body: Any = None, *, missing: bool = False) -> Any:
        """Return the object of an answer; None for an answer without one, and with `missing` for what is not found."""
        try:
            async with self._answer(method, path, body) as answer:
                data = bytearray()
                async for chunk in answer.aiter_bytes():
                    data += chunk
                    if len(data) > MOST_ANSWER:
                        raise InvalidInput(f"control's answer is larger than {MOST_ANSWER} bytes")
        except NotFound:
            if missing:
                return None
            raise
        try:
            return json.loads(data) if data else None
        except ValueError as error:
            raise InvalidInput("control's answer is no JSON") from error

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, body: Any = None, *, read: float = ANSWER_SECONDS
    ) -> AsyncIterator[httpx2.Response]:
        """The answer to a request, whose body is still to be read. Raises the error that it tells."""
        timeout = httpx2.Timeout(read, connect=CONNECT_SECONDS)
        try:
            async with (
                self._using(self._http) as http,
                http.stream(method, LINK + path, json=body, timeout=timeout) as answer,
            ):
                if answer.status_code >= 400:
                    raise _error(answer.status_code, (await answer.aread()).decode(errors="replace")[:MOST_TEXT])
                yield answer
        except httpx2.HTTPError as error:
            raise Unreachable(f"the control at {self._url} cannot be reached: {_reason(error)}") from error

    @asynccontextmanager
    async def _using(self, http: httpx2.AsyncClient) -> AsyncIterator[httpx2.AsyncClient]:
        """Close `http` after its last request, if it was renewed meanwhile."""
        self._users[http] += 1
        try:
            yield http
        finally:
            self._users[http] -= 1
            if not self._users[http]:
                del self._users[http]
                if http is not self._http:
                    await http.aclose()


def _connections(url: str, tls: SSLContext | None) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        base_url=url,
        verify=True if tls is None else tls,
        trust_env=False,  # no proxy stands between a worker and its control
        timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        limits=httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=3600),
        headers={"User-Agent": f"rescoldo-worker/{__version__}"},
    )


def _part(text: str) -> str:
    return quote(text, safe="")


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _error(status: int, text: str) -> RescoldoError:
    if status == 404:
        return NotFound(text)
    if status == 409:
        return Superseded(text)
    if status in (400, 403, 413):
        return InvalidInput(text)
    return Unreachable(f"control answers with {status}: {text}")
