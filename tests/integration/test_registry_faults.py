"""Our client at a registry that fails, redirects, or asks for passwords where they would be seen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rescoldo.image.blobs import GZIP_LAYER, Blob
from rescoldo.image.challenge import Challenge
from rescoldo.image.credentials import Credentials
from rescoldo.image.login import Login
from rescoldo.image.protocol import RegistryFailed, RegistryRefused
from rescoldo.image.reference import parse
from rescoldo.image.registry import ATTEMPTS, HttpRegistry

BLOB = Blob.of(b"content", GZIP_LAYER)
OWN = Credentials("me", "word")

Answer = Callable[[str, str], tuple[int, dict[str, str], bytes]]  # (method, path) → status, headers, body


class Scripted(ThreadingHTTPServer):
    """A server whose answers a test gives."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.seen: list[tuple[str, str, str | None]] = []  # method, path, Authorization

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Scripted
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, self.path, self.headers.get("Authorization")))
        status, headers, body = self.server.answer(self.command, self.path)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def scripted(answer: Answer) -> Iterator[Scripted]:
    with Scripted(answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def client(server: Scripted, own: Credentials | None = None) -> Iterator[tuple[HttpRegistry, list[float]]]:
    waited: list[float] = []
    with HttpRegistry(parse(f"{server.address}/a", "--push"), own, plain_http=True, sleep=waited.append) as made:
        yield made, waited


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_registry_that_recovers_is_asked_again(status: int) -> None:
    left = [status] * (ATTEMPTS - 1)
    with scripted(lambda *_: (left.pop() if left else 200, {}, b"")) as server, client(server) as (registry, waited):
        assert registry.has("a", BLOB.digest)
    assert waited == [1.0, 2.0, 4.0]


def test_a_registry_that_goes_on_failing_is_told_with_its_reason() -> None:
    body = b'{"errors": [{"code": "UNAVAILABLE", "message": "the disk is full"}]}'
    with scripted(lambda *_: (503, {}, body)) as server, client(server) as (registry, waited):
        with pytest.raises(RegistryFailed, match="answers with 503: the disk is full; try again"):
            registry.manifest("a", "1")
        assert len(waited) == ATTEMPTS - 1


def test_an_upload_that_fails_begins_again() -> None:
    puts = [503, 201]

    def answer(method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        return (202, {"Location": f"/upload/{len(puts)}"}, b"") if method == "POST" else (puts.pop(0), {}, b"")

    with scripted(answer) as server, client(server) as (registry, waited):
        registry.put("a", BLOB, lambda _: None)
    assert [(method, path.partition("?")[0]) for method, path, _ in server.seen] == [
        ("POST", "/v2/a/blobs/uploads/"), ("PUT", "/upload/2"), ("POST", "/v2/a/blobs/uploads/"), ("PUT", "/upload/1"),
    ]  # fmt: skip
    assert waited == [1.0]


def test_a_blob_that_is_kept_elsewhere_is_there() -> None:
    with (
        scripted(lambda *_: (307, {"Location": "http://127.0.0.1:1/store"}, b"")) as server,
        client(server) as (registry, _),
    ):
        assert registry.has("a", BLOB.digest)


def test_a_registry_that_is_not_there_is_named() -> None:
    with scripted(lambda *_: (200, {}, b"")) as server:
        pass
    with client(server) as (registry, _), pytest.raises(RegistryFailed, match=f"{server.address} cannot be reached"):
        registry.has("a", BLOB.digest)


def test_a_base_needs_no_registry() -> None:
    name = parse("127.0.0.1:1/a", "--base")
    with (
        HttpRegistry(name, None, plain_http=True, flag="--base", sleep=lambda _: None) as registry,
        pytest.raises(RegistryFailed, match=r"--base: the registry .*; --base machine needs no registry"),
    ):
        registry.manifest("a", "1")


def test_what_is_not_allowed_names_the_flag() -> None:
    with (
        scripted(lambda *_: (403, {}, b"no")) as server,
        client(server) as (registry, _),
        pytest.raises(RegistryRefused, match=r"--push: .* does not allow this in a \(no\): check the name"),
    ):
        registry.put("a", BLOB, lambda _: None)


def test_a_repository_that_somebody_has_to_make_first() -> None:
    with (
        scripted(lambda *_: (404, {}, b'{"errors": [{"code": "NAME_UNKNOWN"}]}')) as server,
        client(server) as (registry, _),
        pytest.raises(RegistryRefused, match=r"has no a to push to \(NAME_UNKNOWN\): check the name, or make it there"),
    ):
        registry.put("a", BLOB, lambda _: None)


def asking(method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    return 401, {"WWW-Authenticate": 'Basic realm="here"'}, b""


def test_a_password_does_not_go_where_a_blob_is_stored() -> None:
    """A redirect to another host, and an upload that another host takes."""
    with scripted(lambda *_: (200, {}, b"content")) as store:
        elsewhere = f"http://{store.address}/store?signed=1"
        asked = iter([asking])

        def answer(method: str, path: str) -> tuple[int, dict[str, str], bytes]:
            if (first := next(asked, None)) is not None:
                return first(method, path)
            return {"GET": 307, "POST": 202}[method], {"Location": elsewhere}, b""

        with scripted(answer) as server, client(server, OWN) as (registry, _):
            with registry.read("a", BLOB.digest) as pieces:
                assert b"".join(pieces) == b"content"
            registry.put("a", BLOB, lambda _: None)
        assert [login is not None for _, _, login in server.seen] == [False, True, True]
        assert [login for _, _, login in store.seen] == [None, None]
        assert store.seen[1][:2] == ("PUT", f"/store?signed=1&digest={BLOB.digest}")


def test_a_password_that_is_refused_is_tried_once() -> None:
    with scripted(asking) as server, client(server, OWN) as (registry, waited):
        with pytest.raises(RegistryRefused, match="refuses the saved password"):
            registry.has("a", BLOB.digest)
        assert (len(server.seen), waited) == (2, [])


def test_a_password_does_not_travel_without_encryption() -> None:
    login = Login("https://ghcr.io", "ghcr.io", OWN, None)  # type: ignore[arg-type]  # it must ask nobody
    with pytest.raises(RegistryRefused, match=r"http://ghcr\.io/token, which is not encrypted"):
        login.answer(Challenge("bearer", "http://ghcr.io/token"))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"nonsense"])
def test_a_token_server_that_gives_no_token(body: bytes) -> None:
    def answer(method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        if path.startswith("/token"):
            return 200, {}, body
        return 401, {"WWW-Authenticate": 'Bearer realm="/token"'}, b""

    with (
        scripted(answer) as server,
        client(server, OWN) as (registry, _),
        pytest.raises(RegistryFailed, match="gives no token at"),
    ):
        registry.has("a", BLOB.digest)
