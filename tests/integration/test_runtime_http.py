"""HTTP/1.1 as an instance speaks it, on a real process and a raw Unix socket."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from runtime_process import ECHO, FUNCTION, Client, Instance, start, write_bundle

from rescoldo.runtime.http import receiver

HEAD = b"Host: f\r\n"
Factory = Callable[..., Instance]


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    root = tmp_path_factory.mktemp("echo")
    write_bundle(root, ECHO)
    running = start(root, max_body=1000)
    yield running
    running.close()


@pytest.fixture
def client(echo: Instance) -> Client:
    return echo.connect()


def test_requests_follow_one_another_on_one_connection(client: Client) -> None:
    for number in range(3):
        answer = client.ask(f"/n/{number}?a=1&a=2&b=", method="POST", body=b"x" * number)
        assert answer.status == 200
        assert answer.header("Content-Type") == "application/json"
        seen = answer.json()
        assert (seen["method"], seen["path"], seen["body"]) == ("POST", f"/n/{number}", "x" * number)
        assert seen["query"] == {"a": "1", "b": ""}


def test_pipelined_requests_are_answered_in_order(client: Client) -> None:
    requests = [b"GET /%d HTTP/1.1\r\n%b\r\n" % (n, HEAD) for n in range(50)]
    requests[10:10] = [b"GET /_/health HTTP/1.1\r\n" + HEAD + b"\r\n"]
    client.send(b"".join(requests))
    answers = [client.answer() for _ in requests]
    assert answers.pop(10).body == b"OK"
    assert [a.json()["path"] for a in answers] == [f"/{n}" for n in range(50)]


def test_thousands_of_pipelined_health_checks_do_not_exhaust_the_stack(client: Client) -> None:
    client.send(b"GET /_/health HTTP/1.1\r\nHost: f\r\n\r\n" * 3000)
    assert {client.answer().body for _ in range(3000)} == {b"OK"}


def test_a_request_may_arrive_byte_by_byte(client: Client) -> None:
    for byte in b"POST /slow?q=%20 HTTP/1.1\r\nHost: f\r\nX-Empty:\r\nContent-Length: 3\r\n\r\nabc":
        client.send(bytes([byte]))
    seen = client.answer().json()
    assert (seen["body"], seen["query"], seen["headers"]["X-Empty"]) == ("abc", {"q": " "}, "")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Instance]:
    """An instance whose clients have 0.2 s for a body, and 1 s for each 100 bytes of it."""
    monkeypatch.setattr(receiver, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(receiver, "BODY_RATE", 100)
    write_bundle(tmp_path, ECHO)
    running = start(tmp_path)
    yield running
    running.close()


@pytest.mark.slow
@pytest.mark.parametrize("framing", [b"Content-Length: 9", b"Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come_gets_a_408_and_ends_the_connection(impatient: Instance, framing: bytes) -> None:
    client = impatient.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: f\r\n%b\r\n\r\n1" % framing)
    answer = client.answer()
    assert (answer.status, answer.body) == (408, b"the body did not arrive in time\n")
    assert client.at_end()
    assert impatient.get("/others").status == 200


@pytest.mark.slow
def test_a_slow_body_that_makes_progress_arrives(impatient: Instance) -> None:
    client = impatient.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: f\r\nContent-Length: 6003\r\n\r\n" + b"x" * 6000)  # they buy a minute
    time.sleep(0.3)  # longer than BODY_SECONDS
    client.send(b"yyy")
    assert client.answer().json()["body"] == "x" * 6000 + "yyy"
    assert client.ask("/next").json()["path"] == "/next"


def test_a_chunked_body_is_joined_and_its_trailers_are_dropped(client: Client) -> None:
    client.send(b"POST / HTTP/1.1\r\nHost: f\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.send(b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nX-Trailer: t\r\n\r\n")
    seen = client.answer().json()
    assert seen["body"] == "abcde"
    assert "X-Trailer" not in seen["headers"]
    assert client.ask("/next").json()["path"] == "/next"


def test_head_has_the_length_and_no_body(client: Client) -> None:
    answer = client.ask("/", method="HEAD")
    assert int(answer.header("Content-Length") or 0) > 10
    assert client.ask("/after").json()["path"] == "/after"


def test_100_continue_is_sent_before_the_body_is_read(client: Client) -> None:
    client.send(b"POST / HTTP/1.1\r\nHost: f\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert client.answer().status == 100
    client.send(b"hi")
    assert client.answer().json()["body"] == "hi"


def test_100_continue_waits_for_the_answers_before_it(client: Client) -> None:
    client.send(
        b"GET /first HTTP/1.1\r\nHost: f\r\n\r\n"
        b"POST / HTTP/1.1\r\nHost: f\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    )
    assert client.answer().json()["path"] == "/first"
    assert client.answer().status == 100
    client.send(b"hi")
    assert client.answer().json()["body"] == "hi"


def test_100_continue_is_not_sent_to_a_client_that_did_not_wait(client: Client) -> None:
    client.send(b"POST / HTTP/1.1\r\nHost: f\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi")
    assert client.answer().json()["body"] == "hi"


def test_another_expectation_gets_417(client: Client) -> None:
    assert client.ask(Expect="miracles").status == 417


def test_http_1_0_ends_after_one_answer(client: Client) -> None:
    client.send(b"GET /old HTTP/1.0\r\n\r\n")
    answer = client.answer()
    assert (answer.json()["path"], answer.header("Connection")) == ("/old", "close")
    assert client.at_end()


def test_http_1_0_may_keep_the_connection(client: Client) -> None:
    for _ in range(2):
        client.send(b"GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert client.answer().header("Connection") == "keep-alive"


def test_connection_close_ends_the_connection_and_what_follows_is_ignored(client: Client) -> None:
    client.send(b"GET /1 HTTP/1.1\r\nHost: f\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: f\r\n\r\n")
    answer = client.answer()
    assert (answer.json()["path"], answer.header("Connection")) == ("/1", "close")
    assert client.at_end()


def test_a_client_that_shuts_its_sending_side_is_still_answered(client: Client) -> None:
    client.send(b"GET /half HTTP/1.1\r\nHost: f\r\n\r\n")
    client.socket.shutdown(socket.SHUT_WR)
    assert client.answer().json()["path"] == "/half"
    assert client.at_end()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: f\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/3.9\r\nHost: f\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: f\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: f\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: f\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: f\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET http://[bad HTTP/1.1\r\nHost: f\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ],
)
def test_a_request_that_is_no_http_gets_400_and_the_connection_ends(client: Client, request_bytes: bytes) -> None:
    client.send(request_bytes)
    answer = client.answer()
    assert (answer.status, answer.header("Connection")) == (400, "close")
    assert answer.header("X-OpenFaaS-Internal") == "of-watchdog"
    assert client.at_end()


@pytest.mark.parametrize(
    "codings", [b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"]
)
def test_a_body_in_another_transfer_coding_is_refused(client: Client, codings: bytes) -> None:
    client.send(b"POST / HTTP/1.1\r\nHost: f\r\n" + codings + b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    answer = client.answer()
    assert (answer.status, answer.text) == (501, "chunked is the only transfer coding supported\n")
    assert client.at_end()


def test_a_bad_request_behind_good_ones_is_answered_last(client: Client) -> None:
    client.send(b"GET /good HTTP/1.1\r\nHost: f\r\n\r\nnonsense\r\n\r\n")
    assert client.answer().json()["path"] == "/good"
    assert client.answer().status == 400
    assert client.at_end()


def test_connect_is_refused(client: Client) -> None:
    client.send(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n")
    assert client.answer().status in (400, 405)
    assert client.at_end()


def test_an_upgrade_is_ignored(client: Client) -> None:
    client.send(b"GET /ws HTTP/1.1\r\nHost: f\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert client.answer().json()["path"] == "/ws"
    assert client.ask("/after").json()["path"] == "/after"


def test_an_absolute_target_is_understood(client: Client) -> None:
    assert client.ask("http://example.org/p%C3%A9?q=1").json()["path"] == "/pé"


@pytest.mark.parametrize("steps", [1, 8])
def test_a_header_section_over_64_kib_gets_431(client: Client, steps: int) -> None:
    client.send(b"GET / HTTP/1.1\r\nHost: f\r\n")
    for number in range(steps):
        client.send(b"X-%d: %b\r\n" % (number, b"a" * (66_000 // steps)))
    client.send(b"\r\n")
    assert client.answer().status == 431
    assert client.at_end()


def test_one_endless_header_gets_431_while_it_is_sent(client: Client) -> None:
    client.send(b"GET / HTTP/1.1\r\nHost: f\r\nX: ")
    for _ in range(50):
        client.send(b"a" * 8192)
    assert client.answer().status == 431
    assert client.at_end()


def test_a_header_section_of_60_kib_may_come_in_pieces(client: Client) -> None:
    client.send(b"GET /pieces HTTP/1.1\r\nHost: f\r\n")
    for number in range(60):
        client.send(b"X-%d: %b\r\n" % (number, b"a" * 1000))
    client.send(b"\r\n")
    assert client.answer().json()["path"] == "/pieces"


def test_a_header_section_of_60_kib_is_served_after_a_large_body(client: Client) -> None:
    client.send(b"POST / HTTP/1.1\r\nHost: f\r\nContent-Length: 1000\r\n\r\n" + b"b" * 1000)
    client.send(b"GET /big HTTP/1.1\r\nHost: f\r\nX: " + b"a" * 60_000 + b"\r\n\r\n")
    assert client.answer().status == 200
    assert client.answer().json()["path"] == "/big"


def test_a_target_over_16_kib_gets_414(client: Client) -> None:
    assert client.ask("/" + "a" * 17_000).status == 414
    assert client.at_end()


def test_a_body_over_the_limit_gets_413_before_it_is_sent(client: Client) -> None:
    client.send(b"POST / HTTP/1.1\r\nHost: f\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
    assert client.answer().status == 413
    assert client.at_end()


def test_a_chunked_body_over_the_limit_gets_413(client: Client) -> None:
    client.send(b"POST / HTTP/1.1\r\nHost: f\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.send(b"1f4\r\n" + b"a" * 500 + b"\r\n" + b"1f5\r\n" + b"a" * 501 + b"\r\n")
    answer = client.answer()
    assert (answer.status, answer.header("X-OpenFaaS-Internal")) == (413, "of-watchdog")
    assert client.at_end()


def test_a_body_of_exactly_the_limit_is_served(client: Client) -> None:
    assert client.ask(method="POST", body=b"a" * 1000).status == 200


def test_a_request_for_another_function_gets_421(client: Client) -> None:
    answer = client.ask(X_Rescoldo_Function="other.openfaas-fn")
    assert (answer.status, answer.body) == (421, b"misdirected\n")
    assert client.at_end()


def test_the_functions_name_is_checked_and_not_shown_to_the_handler(client: Client) -> None:
    seen = client.ask(X_Rescoldo_Function=FUNCTION, X_Call_Id="c-1").json()
    assert "X-Rescoldo-Function" not in seen["headers"]
    assert seen["call_id"] == seen["headers"]["X-Call-Id"] == "c-1"


def test_a_repeated_header_is_joined(client: Client) -> None:
    client.send(b"GET / HTTP/1.1\r\nHost: f\r\nx-a: 1\r\nX-A: 2\r\ncookie: a=1\r\ncookie: b=2\r\n\r\n")
    seen = client.answer().json()["headers"]
    assert (seen["X-A"], seen["Cookie"]) == ("1, 2", "a=1; b=2")


def test_every_answer_has_its_duration_and_date(client: Client) -> None:
    answer = client.ask()
    assert re.fullmatch(r"\d+\.\d{6}", answer.header("X-Duration-Seconds") or "")
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.header("Date") or "")
    assert answer.header("X-OpenFaaS-Internal") is None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/_/health", 200), ("GET", "/_/ready", 200), ("POST", "/_/health", 405), ("HEAD", "/_/ready", 200)],
)
def test_the_instance_answers_the_watchdogs_routes(client: Client, method: str, path: str, status: int) -> None:
    assert client.ask(path, method=method).status == status


def test_other_paths_below_the_watchdogs_go_to_the_handler(client: Client) -> None:
    assert client.ask("/_/other").json()["path"] == "/_/other"


def test_without_a_limit_a_body_of_10_mib_arrives(tmp_path: Path) -> None:
    write_bundle(tmp_path, "def handle(event, context): return str(len(event.body))")
    running = start(tmp_path, max_body=0)
    try:
        assert running.get(method="POST", body=b"a" * 10 * 2**20).text == str(10 * 2**20)
    finally:
        running.close()


def test_many_clients_at_once_are_all_answered(echo: Instance) -> None:
    clients: list[Any] = [echo.connect() for _ in range(50)]
    for number, client in enumerate(clients):
        client.send(b"GET /%d HTTP/1.1\r\nHost: f\r\n\r\n" % number)
    for number, client in enumerate(clients):
        assert client.answer().json()["path"] == f"/{number}"
