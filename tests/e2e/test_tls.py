"""A gateway that speaks HTTPS: certificates, renewal, and verbs that find it."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.certificates import Authority, Pair, put_haproxy_on_path
from support.gateway import Answer
from support.live import Live
from support.ports import free_ports
from support.user import User

pytestmark = pytest.mark.slow

NAME = "127.0.0.1"
SHOW = """
import json
def handle(event, context):
    return json.dumps({name.lower(): value for name, value in event.headers.items()})
"""
ASK = """
import os, ssl, urllib.request
def handle(event, context):
    url = os.environ["OPENFAAS_GATEWAY"] + "/function/show"
    with urllib.request.urlopen(url, context=ssl._create_unverified_context()) as answer:
        return answer.read().decode()
"""


class SecureLive(Live):
    """A platform whose gateway has a certificate of `authority`, in a file that tests may replace."""

    def __init__(self, authority: Authority, folder: Path, **settings: Any) -> None:
        self.bundle = authority.pair("first", f"IP:{NAME}").bundle(folder / "gateway.pem")
        self.trust = ssl.create_default_context(cafile=str(authority.root.certificate))
        super().__init__(tls_cert=str(self.bundle), **settings)

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        return http.client.HTTPSConnection(NAME, self.port, timeout=timeout, context=self.trust)

    def serves(self, pair: Pair) -> bool:
        """Return whether a new connection gets this certificate."""
        with self.handshake(self.trust) as secure:
            return secure.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())

    def handshake(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        return context.wrap_socket(socket.create_connection((NAME, self.port), timeout=5), server_hostname=NAME)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module", autouse=True)
def haproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        put_haproxy_on_path(tmp_path_factory.mktemp("haproxy"), patch)
        yield


@pytest.fixture
def live(authority: Authority, tmp_path: Path) -> Iterator[SecureLive]:
    (port,) = free_ports(1)
    with SecureLive(authority, tmp_path, redirect=f"{NAME}:{port}") as found:
        yield found


def headers(answer: Answer) -> dict[str, str]:
    assert answer.status == 200, answer.text
    found: dict[str, str] = json.loads(answer.text)
    return found


def test_calls_use_tls_and_http2_and_functions_get_the_forwarded_headers(
    live: SecureLive, authority: Authority
) -> None:
    live.deploy("show", SHOW)
    cold = live.invoke("show", headers={"X-Call-Id": "mine"})
    assert cold.cold
    # the controller publishes the route after its answer: the edge may still hold the next call
    live.until(lambda: not live.invoke("show").cold, "the route of the function")
    warm = live.invoke("show", headers={"X-Call-Id": "mine"})
    assert not warm.cold
    for answer in (cold, warm):
        assert headers(answer)["x-forwarded-proto"] == "https"
        assert headers(answer)["x-forwarded-host"] == f"{NAME}:{live.port}"
    assert headers(live.invoke("show", headers={"X-Forwarded-Proto": "spdy"}))["x-forwarded-proto"] == "spdy"

    for offered in ("h2", "http/1.1"):
        context = ssl.create_default_context(cafile=str(authority.root.certificate))
        context.set_alpn_protocols([offered])
        with live.handshake(context) as secure:
            assert secure.selected_alpn_protocol() == offered

    assert "PRIVATE KEY" not in live.log()
    assert live.settings.certificate.stat().st_mode & 0o777 == 0o600
    assert f"ready at https://{live.settings.gateway}" in live.log()


def test_plain_http_is_redirected_with_its_path_and_method(live: SecureLive) -> None:
    assert live.settings.redirect is not None
    plain = http.client.HTTPConnection(live.settings.redirect, timeout=10)
    plain.request("POST", "/function/show?x=1", b"body", {"Host": f"fn.example:{live.port + 1}"})
    answer = plain.getresponse()
    assert (answer.status, answer.getheader("location")) == (
        308, f"https://fn.example:{live.port}/function/show?x=1"
    )  # fmt: skip
    plain.close()


def test_a_replaced_certificate_is_served_without_a_restart_and_a_broken_one_is_not(
    live: SecureLive, authority: Authority
) -> None:
    live.deploy("show", SHOW)
    headers(live.invoke("show"))
    edge, second = live.pid("edge"), authority.pair("second", f"IP:{NAME}")
    second.bundle(live.bundle)

    def taken_over() -> bool:
        headers(live.invoke("show"))  # no call fails meanwhile
        return live.serves(second)

    live.until(taken_over, "the second certificate")
    live.until(lambda: live.pid("edge") != edge, "another edge")

    live.bundle.write_text("junk\n")
    live.until(lambda: "--tls-cert" in live.system("GET", "/status").text.partition('"problems":')[2], "the problem")
    assert live.serves(second)
    killed = live.kill("edge")
    live.until(lambda: live.pid("edge") != killed and live.answers(), "the edge to answer again")
    assert live.serves(second), "the new edge lost the valid certificate"
    headers(live.invoke("show"))

    third = authority.pair("third", f"IP:{NAME}")
    third.bundle(live.bundle)
    live.until(lambda: live.serves(third), "the third certificate")
    assert json.loads(live.system("GET", "/status").text)["problems"] == []


def test_functions_reach_the_gateway_at_the_given_url(live: SecureLive) -> None:
    live.deploy("show", SHOW)
    live.deploy("ask", ASK)
    assert headers(live.invoke("ask"))["x-forwarded-proto"] in ("http", "https")


def test_every_verb_finds_an_https_gateway_and_up_starts_it_again_with_tls(
    user: User, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the certificate does not name this address: verbs trust the certificate itself
    bundle = authority.pair("elsewhere", "DNS:fn.example").bundle(tmp_path / "gateway.pem")
    secure = user.gateway.replace("http://", "https://")
    address = user.gateway.removeprefix("http://")
    del user.environment["OPENFAAS_URL"]
    serve = ("serve", "-d", "--gateway-address", address, "--metrics-address", user.metrics)
    assert user.ok(*serve, "--tls-cert", str(bundle)).strip() == secure
    assert f"gateway:      {secure}" in user.ok("status")

    user.ok("new", "greet", "--lang", "python3-http")
    assert f"{secure}/function/greet" in user.ok("up")
    assert "Ada" in user.ok("invoke", "greet", stdin="Ada")
    assert "greet" in user.ok("list")
    user.ok("logs", "greet", "--no-follow")

    user.ok("down")
    assert f"{secure}/function/greet" in user.ok("up"), "the settings of the first start are forgotten"
    assert "Ada" in user.ok("invoke", "greet", stdin="Ada")

