"""`rescoldo serve --join`, with a stand-in for the supervisor."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rescoldo.model.settings import Settings
from rescoldo.supervisor import main

Run = Callable[..., tuple[int, str, str]]
WORKER = ("--join", "https://rescoldo-control.rescoldo.svc:8443", "--identity", "/etc/rescoldo/identity")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings of the platforms that were started."""
    found: list[Settings] = []

    def serve(settings: Settings) -> int:
        found.append(settings)
        return 0

    monkeypatch.setattr(main, "run", serve)
    return found


def test_the_command_of_the_manifests_makes_a_worker(run: Run, served: list[Settings]) -> None:
    status, _, err = run(
        "serve", "--gateway-address", "0.0.0.0:8080", "--metrics-address", "0.0.0.0:8082", *WORKER,
        "--namespace", "blue", "--functions-gateway", "http://rescoldo-gateway.rescoldo.svc/", "--drain", "5s",
        "--max-stale", "5m", "--gateways-tls-address", "0.0.0.0:8443",
    )  # fmt: skip
    assert (status, err) == (0, "")
    (found,) = served
    assert (found.join, found.identity, found.namespace) == (WORKER[1], WORKER[3], "blue")
    assert (found.basic_auth, found.functions_gateway) == (False, "http://rescoldo-gateway.rescoldo.svc")
    assert (found.max_stale, found.drain, found.log_functions) == (300.0, 5.0, True)
    assert found.gateways_tls == "0.0.0.0:8443"
    assert [str(path) for path in found.certificate_files] == [f"{WORKER[3]}/tls.crt", f"{WORKER[3]}/tls.key"]
    assert str(found.pool_secrets) == "/etc/rescoldo/identity/pool-secret"
    assert Settings.from_json(found.to_json()) == found


def test_functions_lines_are_printed_unless_a_flag_says_otherwise(run: Run, served: list[Settings]) -> None:
    for words in ((), WORKER, (*WORKER, "--no-log-functions")):
        run("serve", *words)
    assert [settings.log_functions for settings in served] == [False, True, False]


def test_without_join_a_platform_stands_alone(run: Run, served: list[Settings]) -> None:
    assert run("serve")[0] == 0
    (found,) = served
    assert (found.join, found.identity, found.pool_secrets, found.basic_auth) == (None, None, None, True)
    assert (found.gateways_tls, found.certificate_files) == (None, ())


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--identity", "/id"), "--identity needs --join"),
        (("--namespace", "blue"), "--namespace needs --join"),
        (("--functions-gateway", "http://g"), "--functions-gateway needs --join"),
        (("--max-stale", "5m"), "--max-stale needs --join"),
        (("--gateways-tls-address", "0.0.0.0:8443"), "--gateways-tls-address needs --join"),
        ((*WORKER, "--gateways-tls-address", "8443"), "--gateways-tls-address '8443': write HOST:PORT"),
        (("--no-log-functions",), "--no-log-functions needs --join"),
        (("--allow-without-landlock",), "--allow-without-landlock needs --join"),
        (("--join", "https://c:1"), "--join needs --identity"),
        ((*WORKER, "--tls-cert", "/c.pem"), "--tls-cert is not for a worker (--join): its cluster"),
        ((*WORKER, "--tls-key", "/k.pem", "--tls-cert", "/c.pem"), "is not for a worker"),
        ((*WORKER, "--trusted-proxy", "10.0.0.0/8"), "--trusted-proxy is not for a worker"),
        ((*WORKER, "--no-basic-auth"), "--no-basic-auth is not for a worker"),
        ((*WORKER, "--no-gateway-names"), "--no-gateway-names is not for a worker"),
        ((*WORKER, "--detach"), "--detach is not for a worker (--join): it runs in the foreground of its container"),
        ((*WORKER, "--install-service"), "--install-service is not for a worker"),
        ((*WORKER[2:], "--join", "http://c:1"), "--join 'http://c:1': write https://HOST:PORT"),
        ((*WORKER[2:], "--join", "c:8443"), "--join 'c:8443': write https://HOST:PORT"),
        ((*WORKER[2:], "--join", "https://c:1/link"), "write https://HOST:PORT"),
        ((*WORKER[2:], "--join", "https://c:x"), "write https://HOST:PORT"),
        ((*WORKER, "--functions-gateway", "g:80"), "write http://HOST:PORT or https://HOST:PORT"),
        ((*WORKER, "--functions-gateway", "http://u:p@g"), "write http://HOST:PORT or https://HOST:PORT"),
    ],
)
def test_a_combination_without_sense_is_refused(
    run: Run, served: list[Settings], words: tuple[str, ...], complaint: str
) -> None:
    status, _, err = run("serve", *words)
    assert (status, served) == (2, []) and complaint in err


@pytest.mark.parametrize("value", ["9s", "400000h", "soon", "-1"])
def test_a_span_of_staleness_is_bounded(run: Run, served: list[Settings], value: str) -> None:
    status, _, err = run("serve", *WORKER, "--max-stale", value)
    assert (status, served) == (1, []) and f"--max-stale: '{value}'" in err


def test_a_namespace_must_be_a_name(run: Run, served: list[Settings]) -> None:
    status, _, err = run("serve", *WORKER, "--namespace", "Blue!")
    assert (status, served) == (1, []) and "namespace name 'Blue!' is not valid" in err
