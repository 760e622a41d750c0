"""Every verb speaks to a platform that was started with other addresses."""

from __future__ import annotations

import pytest

from support.ports import free_ports
from support.user import User

pytestmark = pytest.mark.slow


def test_every_verb_finds_a_platform_with_other_addresses(user: User) -> None:
    del user.environment["OPENFAAS_URL"]
    gateway, metrics, free = (f"127.0.0.1:{port}" for port in free_ports(3))
    user.ok("serve", "-d", "--gateway-address", gateway, "--metrics-address", metrics, "--slots", "77")
    user.ok("new", "hello", "--lang", "python3-http")  # its stack file names the default address
    assert gateway in user.ok("status")
    user.ok("up")
    assert user.ok("invoke", "hello", stdin="x")
    assert "hello" in user.ok("list")
    user.ok("logs", "hello", "--tail=false")
    data = str(user.data)
    said = user.fails("serve", "--gateway-address", free, status=1)
    assert f"{data} is already served by process" in said
    assert f"at http://{gateway}" in said
    said = user.fails("serve", "--data", str(user.home / "other"), "--gateway-address", gateway, status=1)
    assert f"{gateway} is already in use by the rescoldo platform of process" in said
    assert f"data folder {data}" in said
    said = user.fails("up", "--data", str(user.home / "other"), "--gateway", f"http://{gateway}")
    assert f"use --data {data}" in said
    user.ok("down")
    user.ok("up")  # with the addresses of the first start
    status = user.ok("status")
    assert gateway in status
    assert metrics in status
