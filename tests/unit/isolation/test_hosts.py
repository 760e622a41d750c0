from __future__ import annotations

from pathlib import Path

import pytest

from rescoldo.isolation import hosts
from rescoldo.isolation.hosts import ENCODING, changed, hosts_with

NAMES = ("gateway.openfaas", "gateway")
MACHINE = """127.0.0.1 localhost
# a comment with gateway in it
10.0.0.1\tgateway router  # both
10.0.0.2 Gateway.OpenFaaS
10.0.0.3 gateway.example.com

::1 localhost
"""


def test_the_gateways_names_are_redefined_and_all_other_names_stay() -> None:
    assert changed(MACHINE.splitlines(), "127.68.1.2", NAMES).splitlines() == [
        "127.68.1.2 gateway.openfaas gateway",
        "127.0.0.1 localhost",
        "# a comment with gateway in it",
        "10.0.0.1 router",
        "10.0.0.3 gateway.example.com",
        "",
        "::1 localhost",
    ]


def test_the_machines_file_is_not_changed_and_may_hold_any_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = tmp_path / "hosts"
    machine.write_bytes(b"10.0.0.9 other \xff\n")
    monkeypatch.setattr(hosts, "HOSTS", str(machine))
    assert hosts_with("127.68.1.2", NAMES).encode(*ENCODING) == (
        b"127.68.1.2 gateway.openfaas gateway\n10.0.0.9 other \xff\n"
    )
    assert machine.read_bytes() == b"10.0.0.9 other \xff\n"


def test_a_very_long_file_is_cut_after_a_whole_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = tmp_path / "hosts"
    machine.write_bytes(b"10.0.0.9 other\n10.0.0.10 cut.example.com\n")
    monkeypatch.setattr(hosts, "HOSTS", str(machine))
    monkeypatch.setattr(hosts, "MOST_BYTES", 30)
    assert hosts_with("127.68.1.2", NAMES) == "127.68.1.2 gateway.openfaas gateway\n10.0.0.9 other\n"
