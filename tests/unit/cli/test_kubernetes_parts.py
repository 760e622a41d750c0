"""The flags of a gateway's programs; tests/integration/test_gateway_programs.py runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rescoldo.cli.verbs.kubernetes_parts import (
    Routing,
    gateway_agent_command,
    gateway_command,
    gateway_drain_command,
)
from rescoldo.gateway.config import GatewaySettings
from rescoldo.model.errors import InvalidInput, RescoldoError

CONTROL = ("--control-address", "control:8080")


def run(command: object, *words: str) -> Result:
    return CliRunner().invoke(command, list(words))  # type: ignore[arg-type]


def routing(**changes: object) -> Routing:
    values = {
        "gateway_address": "0.0.0.0:8080",
        "control_address": "control:8080",
        "pools": 64,
        "max_connections": 10_000,
        "threads": 1,
        "slowstart": "4s",
        "connect_timeout": "150ms",
        "longest_call": "1h",
        "trusted_proxies": (),
    }
    return Routing(**{**values, **changes})  # type: ignore[arg-type]


def test_the_defaults_of_the_flags_are_those_of_a_gateway() -> None:
    assert routing().settings(Path("/run/rescoldo")) == GatewaySettings(Path("/run/rescoldo/gateway"), "control:8080")


def test_flags_become_the_gateways_settings() -> None:
    networks = ("10.1.2.3", "10.0.0.0/8")
    changed = routing(longest_call="90s", slowstart="500ms", connect_timeout="2s", trusted_proxies=networks)
    found = changed.settings(Path("/f"))
    assert (found.response_timeout, found.slowstart, found.connect_timeout, found.ending_ms) == (210.0, 0.5, 2.0, 2020)
    assert found.trusted_proxies == ("10.1.2.3/32", "10.0.0.0/8")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "Missing option '--control-address'"),
        (("--control-address", "control"), "--control-address 'control': write HOST:PORT"),
        ((*CONTROL, "--gateway-address", ":8080"), "--gateway-address ':8080': write HOST:PORT"),
        ((*CONTROL, "--pools", "0"), "use a whole number from 1 to 4096"),
        ((*CONTROL, "--threads", "65"), "use a whole number from 1 to 64"),
        ((*CONTROL, "--trusted-proxy", "me"), "--trusted-proxy 'me': write an address or a network"),
    ],
)
def test_what_the_agent_does_not_take_is_named_with_what_is_allowed(words: tuple[str, ...], text: str) -> None:
    result = run(gateway_agent_command, *words)
    assert (result.exit_code, text in result.output) == (2, True), result.output


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--slowstart", "0"), "--slowstart"),
        (("--longest-call", "8d"), "--longest-call"),
        (("--connect-timeout", "2m"), "--connect-timeout"),
        (("--namespace", "../blue"), "namespace name '../blue' is not valid"),
    ],
)
def test_what_is_out_of_range_is_refused(words: tuple[str, ...], text: str) -> None:
    result = run(gateway_agent_command, *CONTROL, *words)
    assert isinstance(result.exception, InvalidInput)
    assert text in str(result.exception)


@pytest.mark.parametrize("words", [("--drain", "2d"), ("--drain", "10s", "--drain-timeout", "5s")])
def test_durations_of_draining_are_checked(words: tuple[str, ...], tmp_path: Path) -> None:
    result = run(gateway_drain_command, "--folder", str(tmp_path), *words)
    assert isinstance(result.exception, InvalidInput)
    assert words[-2] in str(result.exception)


@pytest.mark.parametrize("command", [gateway_command, gateway_drain_command])
def test_a_missing_folder_is_named_with_the_remedy(command: object, tmp_path: Path) -> None:
    result = run(command, "--folder", str(tmp_path / "none"))
    assert isinstance(result.exception, RescoldoError)
    assert "mount the volume that HAProxy and its agent share" in str(result.exception)


def test_haproxys_program_and_the_end_of_a_gateway_do_not_wait_for_the_kubernetes_client() -> None:
    code = (
        "import sys, rescoldo.cli.verbs.kubernetes_parts, rescoldo.gateway.main\n"
        "sys.exit(any(name in sys.modules for name in ('lightkube', 'cryptography', 'httpx2')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
