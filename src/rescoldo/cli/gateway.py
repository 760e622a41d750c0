"""Calls the gateway's REST API for the command line. The only module that imports httpx2."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2

from rescoldo import __version__
from rescoldo.cli.credentials import authorization, is_loopback, known
from rescoldo.cli.local import local_url, others, strangers
from rescoldo.cli.trust import trusted
from rescoldo.model.errors import ROLLOUT_HEADER, InvalidInput, NotFound, NotStarted, RescoldoError, RolloutFailed

Response = httpx2.Response
DEFAULT_GATEWAY = "http://127.0.0.1:8080"
CONNECT_TIMEOUT = 10.0  # seconds
ANSWER_TIMEOUT = 120.0  # seconds for one response of /system; calls of functions have no limit


def choose_gateway(option: str, stack: str = "", data: Path | None = None) -> str:
    """Return the gateway's URL: --gateway, else $OPENFAAS_URL, else the stack file's, else the local platform's (of
    `data`).

    `rescoldo new` writes the default address into every stack file, so that address means the local platform, too.
    Raises InvalidInput.
    """
    url = (option or os.environ.get("OPENFAAS_URL", "")).strip()
    if not url:
        named = stack.strip().rstrip("/")
        url = named if named not in ("", DEFAULT_GATEWAY) else local_url(data) or DEFAULT_GATEWAY
    if "://" not in url:
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port beyond 65535, half an IPv6 address
        is_valid = False
    if not is_valid:
        raise InvalidInput(f"gateway {url!r} is not a URL; write for example {DEFAULT_GATEWAY}")
    return url.rstrip("/")


class GatewayClosed(RescoldoError):
    """The gateway does not answer, or refuses this password: every other request would fail, too."""


class Gateway:
    """A connection to one gateway. Every method raises RescoldoError if the gateway is unreachable."""

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        tls_no_verify: bool = False,
        data: Path | None = None,
        patience: float = ANSWER_TIMEOUT,
        header: str = "",
    ) -> None:
        """`header` is an Authorization header to use instead of what is saved."""
        self.url = url
        self._header = header
        self._data = data
        self._token = token
        self._client = httpx2.Client(
            base_url=url,
            verify=trusted(url, verify=not tls_no_verify) or not tls_no_verify,
            # a proxy from the environment cannot reach this machine's loopback
            trust_env=not is_loopback(url),
            timeout=httpx2.Timeout(patience, connect=min(patience, CONNECT_TIMEOUT)),
            headers={"User-Agent": f"rescoldo/{__version__}"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def answers(self, timeout: float = CONNECT_TIMEOUT) -> bool:
        """Return whether /healthz returns 200 within `timeout` seconds."""
        try:
            return self._client.get("/healthz", timeout=timeout).status_code == 200
        except httpx2.HTTPError:
            return False

    def system(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: object = None,
        content: Any = None,
        headers: Mapping[str, str] | None = None,
        accept: tuple[int, ...] = (200, 201, 202),
        header: str = "",
    ) -> httpx2.Response:
        """Call /system with the gateway's password (or the Authorization `header` given).

        Raises NotFound for 404, RescoldoError for any other status that is not in `accept`.
        """
        with self._translated():
            response = self._client.request(
                method,
                path,
                params={key: value for key, value in (params or {}).items() if value},
                json=json,
                content=content,
                headers={**self._authorized(header), **(headers or {})},
            )
        self._check(response, accept)
        return response

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | list[tuple[str, str]] | None = None,
    ) -> Iterator[httpx2.Response]:
        """Call any path and stream the response, without a time limit, a check of the status or a password."""
        with (
            self._translated(),
            self._client.stream(
                method,
                path,
                params=params,
                content=content,
                headers=headers,
                timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT),
            ) as response,
        ):
            yield response

    @contextmanager
    def system_stream(self, path: str, params: Mapping[str, Any]) -> Iterator[httpx2.Response]:
        """GET a path of /system and stream the response."""
        wanted = {key: value for key, value in params.items() if value}
        with self.stream("GET", path, params=wanted, headers=self._authorized("")) as response:
            if response.status_code != 200:
                response.read()
            self._check(response, (200,))
            yield response

    def _authorized(self, header: str) -> dict[str, str]:
        # read for each request: a local platform writes its password on its first start
        value = header or self._header or authorization(self.url, self._token, self._data)
        return {"Authorization": value} if value else {}

    def _check(self, response: httpx2.Response, accept: tuple[int, ...]) -> None:
        status = response.status_code
        if status in accept:
            return
        text = response.text.strip()
        if status == 401:
            others = ", ".join(known())
            saved = f"; passwords are saved for: {others}" if others else ""
            whose = strangers() if is_loopback(self.url) else ""
            raise GatewayClosed(f"unauthorized access to {self.url}, run `rescoldo login`{saved}{whose}")
        if status == 404:
            raise NotFound(text or "not found")
        if (rollout := response.headers.get(ROLLOUT_HEADER)) is not None:
            raise NotStarted(text) if rollout == "failing" else RolloutFailed(text)
        failure = InvalidInput if status == 400 else RescoldoError
        raise failure(f"{self.url} answered {status}: {text or response.reason_phrase}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpx2.ConnectError as error:
            # Path() is no platform's data directory, so `others` lists every platform
            remedy = (
                f"start one with `rescoldo serve` or `rescoldo up`{others(Path())}"
                if is_loopback(self.url)
                else "check --gateway or $OPENFAAS_URL"
            )
            raise GatewayClosed(f"no gateway answers at {self.url}; {remedy} ({error})") from error
        except httpx2.HTTPError as error:
            raise RescoldoError(f"{self.url}: {error or type(error).__name__}") from error
        except httpx2.InvalidURL as error:
            raise InvalidInput(f"{self.url}: {error}") from error
