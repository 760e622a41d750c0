"""Which certificates a verb trusts for its gateway."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from rescoldo.cli import trust
from rescoldo.cli.gateway import Gateway
from rescoldo.model.settings import Settings
from rescoldo.supervisor.running import RunningPlatform
from support.certificates import Authority, Pair

Serve = Callable[[Pair], str]


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(pair: Pair) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with http.server.HTTPServer(("127.0.0.1", 0), Healthy) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that does not trust it leaves
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda pair: stack.enter_context(serving(pair))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def answers(url: str, *, tls_no_verify: bool = False) -> bool:
    with Gateway(url, tls_no_verify=tls_no_verify) as gateway:
        return gateway.answers()


def test_an_unknown_authority_is_trusted_if_the_environment_names_it(serve, authority, monkeypatch):
    url = serve(authority.pair("one", "IP:127.0.0.1"))
    assert not answers(url)
    assert answers(url, tls_no_verify=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.root.certificate))
    assert answers(url)


def test_a_certificate_for_another_name_is_not_trusted(serve, authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.root.certificate))
    assert not answers(serve(authority.pair("one", "DNS:fn.example")))


def test_the_local_platform_is_trusted_by_its_own_certificate_and_by_no_other(serve, authority, tmp_path, monkeypatch):
    own, other = authority.pair("own", "DNS:fn.example"), authority.pair("other", "DNS:fn.example")
    settings = Settings(str(tmp_path), str(tmp_path), tls_cert=str(own.certificate))
    settings.edge.mkdir()
    settings.certificate.write_text(own.text())
    monkeypatch.setattr(trust, "platform_at", lambda address: RunningPlatform(1, 0, settings))
    assert answers(serve(own))
    assert not answers(serve(other)), "another certificate, though of the same authority"


def test_a_local_certificate_that_this_user_may_not_read_is_checked_like_any_other(
    serve, authority, tmp_path, monkeypatch
):
    pair = authority.pair("own", "IP:127.0.0.1")
    settings = Settings(str(tmp_path), str(tmp_path), tls_cert="/none.pem")
    monkeypatch.setattr(trust, "platform_at", lambda address: RunningPlatform(1, 0, settings))
    assert not answers(serve(pair))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.root.certificate))
    assert answers(serve(pair))


def test_plain_http_needs_no_trust():
    assert trust.trusted("http://127.0.0.1:8080") is None
