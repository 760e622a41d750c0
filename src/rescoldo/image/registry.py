"""A registry over HTTP: the API of the OCI distribution specification, version 1.1.

A blob is sent in one request (POST, then PUT), which every registry takes.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urljoin, urlsplit

import httpx2

from rescoldo import __version__
from rescoldo.image.blobs import INDEX, MANIFEST, PIECE, Blob
from rescoldo.image.challenge import read_challenge
from rescoldo.image.credentials import Credentials
from rescoldo.image.login import Login
from rescoldo.image.protocol import NotInRegistry, RegistryFailed, RegistryRefused, Sent
from rescoldo.image.reference import Reference

DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_ACCEPT = ", ".join((INDEX, MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST))
CONNECT_SECONDS = 10.0
WAIT_SECONDS = 120.0  # for the next bytes: a registry hashes a large blob before it answers
ATTEMPTS = 4  # of a request that fails on the way, or with 429 or 5xx; after 1, 2 and 4 s
MOST_MANIFEST = 4 * 2**20  # bytes, the least that the specification has registries take
_MOST_TEXT = 300  # characters of an error's text

Body = Callable[[], Iterator[bytes]]


class HttpRegistry:
    """Implements Registry for the registry of one reference. `close` ends its connections."""

    def __init__(
        self,
        reference: Reference,
        credentials: Credentials | None,
        *,
        plain_http: bool = False,
        flag: str = "--push",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`flag` is what named the registry, for errors; `sleep` waits between attempts."""
        self._url = f"{'http' if plain_http else 'https'}://{reference.host}"
        self._registry = reference.registry
        self._has_password = credentials is not None
        self._flag = flag
        self._sleep = sleep
        self._tokens: dict[str, str] = {}  # the header Authorization, by repository
        self._http = httpx2.Client(
            verify=ssl.create_default_context(),
            trust_env=not reference.is_loopback,
            timeout=httpx2.Timeout(WAIT_SECONDS, connect=CONNECT_SECONDS),
            headers={"User-Agent": f"rescoldo/{__version__}"},
        )
        self._login = Login(self._url, reference.registry, credentials, self._http)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End all connections."""
        self._http.close()

    def manifest(self, repository: str, version: str) -> Blob:
        with self._answer("GET", repository, f"manifests/{version}", headers={"Accept": _ACCEPT}) as answer:
            data = b""
            for piece in answer.iter_bytes():
                data += piece
                if len(data) > MOST_MANIFEST:
                    raise RegistryFailed(f"the manifest {repository}:{version} is larger than {MOST_MANIFEST} bytes")
            media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        return Blob.of(data, media_type)

    @contextmanager
    def read(self, repository: str, digest: str) -> Iterator[Iterator[bytes]]:
        with self._answer("GET", repository, f"blobs/{digest}", follow=True) as answer:
            yield answer.iter_raw(PIECE)

    def has(self, repository: str, digest: str) -> bool:
        try:
            # a redirect says that it is there; where it leads, a HEAD may not be allowed
            with self._answer("HEAD", repository, f"blobs/{digest}"):
                return True
        except NotInRegistry:
            return False

    def mount(self, repository: str, digest: str, origin: str) -> bool:
        query = {"mount": digest, "from": origin}
        try:
            with self._answer("POST", repository, "blobs/uploads/", query=query) as answer:
                return answer.status_code == 201
        except (NotInRegistry, RegistryRefused):  # it has to be sent, then
            return False

    def put(self, repository: str, blob: Blob, sent: Sent) -> None:
        for attempt in range(1, ATTEMPTS):
            try:
                return self._upload(repository, blob, sent)
            except RegistryFailed:
                self._wait(attempt)
        return self._upload(repository, blob, sent)

    def _upload(self, repository: str, blob: Blob, sent: Sent) -> None:
        """Send a blob from its beginning: what came of an upload that failed is not known, and another one begins."""

        def body() -> Iterator[bytes]:
            for piece in blob.read():
                yield piece
                sent(len(piece))

        with self._answer("POST", repository, "blobs/uploads/", attempts=1) as answer:
            place = urljoin(str(answer.url), answer.headers.get("Location", ""))
        separator = "&" if urlsplit(place).query else "?"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        url = f"{place}{separator}digest={blob.digest}"
        with self._answer("PUT", repository, url, headers=headers, body=body, attempts=1):
            pass

    def put_manifest(self, repository: str, tag: str, manifest: Blob) -> None:
        headers = {"Content-Type": manifest.media_type, "Content-Length": str(manifest.size)}
        with self._answer("PUT", repository, f"manifests/{tag}", headers=headers, body=manifest.read):
            pass

    @contextmanager
    def _answer(
        self,
        method: str,
        repository: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        follow: bool = False,
        attempts: int = ATTEMPTS,
    ) -> Iterator[httpx2.Response]:
        """The answer to a request, whose body is still to be read. Raises the error that it tells."""
        url = urljoin(f"{self._url}/v2/{repository}/", path)
        request = _Request(method, url, query or {}, headers or {}, body, follow, attempts)
        answer = self._try(request, repository)
        try:
            if answer.status_code >= 400:
                answer.read()
                raise self._error(answer, repository)
            yield answer
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from error
        finally:
            answer.close()

    def _try(self, request: _Request, repository: str) -> httpx2.Response:
        """Return the first answer that no repetition could better."""
        attempt = 1
        while True:
            try:
                answer = self._authorized(request, repository)
            except httpx2.HTTPError as error:
                if attempt >= request.attempts or isinstance(error, httpx2.UnsupportedProtocol):
                    raise self._unreachable(error) from error
            else:
                if attempt >= request.attempts or not (answer.status_code == 429 or answer.status_code >= 500):
                    return answer
                answer.close()
            self._wait(attempt)
            attempt += 1

    def _wait(self, attempt: int) -> None:
        self._sleep(2.0 ** (attempt - 1))

    def _authorized(self, request: _Request, repository: str) -> httpx2.Response:
        """Return the answer to `request`, sent once more if the registry asks who is there."""
        answer = self._send(request, repository)
        if answer.status_code != 401:
            return answer
        challenge = read_challenge(answer.headers.get("WWW-Authenticate", ""))
        answer.close()
        if challenge is None:
            raise self._unauthorized(repository)
        reads = request.method in ("GET", "HEAD")
        asked = challenge.to_read(repository) if reads else challenge.to_write(repository)
        if not (found := self._login.answer(asked)):
            raise self._unauthorized(repository)
        self._tokens[repository] = found
        return self._send(request, repository)

    def _send(self, request: _Request, repository: str) -> httpx2.Response:
        headers = dict(request.headers)
        # an upload may go to another host, which has no right to our token
        if urlsplit(request.url).netloc == urlsplit(self._url).netloc and (token := self._tokens.get(repository)):
            headers["Authorization"] = token
        body = None if request.body is None else request.body()
        made = self._http.build_request(
            request.method, request.url, params=dict(request.query) or None, headers=headers, content=body
        )
        # a redirect leads to a store of blobs, which httpx2 sends no token
        return self._http.send(made, stream=True, follow_redirects=request.follow)

    def _unauthorized(self, repository: str) -> RegistryRefused:
        why = "refuses the saved password" if self._has_password else "wants a password"
        return RegistryRefused(
            f"{self._flag}: {self._registry} {why} for {repository}: run `docker login {self._registry}`, or write "
            "the login into ~/.docker/config.json"
        )

    def _error(self, answer: httpx2.Response, repository: str) -> Exception:
        place, text = f"{self._flag}: {self._registry}", _told(answer)
        match answer.status_code:
            case 404 if answer.request.method == "POST":
                return RegistryRefused(
                    f"{place} has no {repository} to push to ({text}): check the name, or make it there"
                )
            case 404:
                return NotInRegistry(f"{place}/{repository} has no such image: {text}; check the name")
            case 401:
                return self._unauthorized(repository)
            case 403:
                return RegistryRefused(
                    f"{place} does not allow this in {repository} ({text}): check the name and your rights there"
                )
            case status if status < 500 and status != 429:
                return RegistryRefused(f"{place} answers with {status}: {text}")
            case status:
                return RegistryFailed(f"{place} answers with {status}: {text}; try again")

    def _unreachable(self, error: Exception) -> RegistryFailed:
        hint = "; --base machine needs no registry" if self._flag == "--base" else ""
        if "SSL" in str(error) or "CERTIFICATE" in str(error):
            hint = "; a registry without TLS needs --plain-http, a private authority $SSL_CERT_FILE"
        return RegistryFailed(
            f"{self._flag}: the registry {self._registry} cannot be reached: {error or type(error).__name__}{hint}"
        )


@dataclass(frozen=True, slots=True)
class _Request:
    """A request that can be sent again."""

    method: str
    url: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Body | None
    follow: bool  # a redirect
    attempts: int


def _told(answer: httpx2.Response) -> str:
    """Return the text of an error, of the specification's form or any other."""
    try:
        errors = answer.json()["errors"]
        return "; ".join(str(error.get("message") or error["code"]) for error in errors)[:_MOST_TEXT]
    except (ValueError, KeyError, TypeError, AttributeError):
        return answer.text[:_MOST_TEXT].strip() or answer.reason_phrase
