from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from rescoldo.model.settings import Settings
from rescoldo.node.sockets import gateway
from rescoldo.node.sockets.gateway import access

GATE = IPv4Address("127.68.1.2")


def settings(tmp_path: Path, **others: object) -> Settings:
    return Settings(str(tmp_path), str(tmp_path), **others)  # type: ignore[arg-type]


def test_names_resolve_to_the_instances_own_listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = tmp_path / "etc-hosts"
    hosts.touch()
    monkeypatch.setattr(gateway, "HOSTS", str(hosts))
    found = access(settings(tmp_path, gateway="127.0.0.1:31112"), GATE)
    assert found is not None and (found.address, found.names) == (str(GATE), ("gateway.openfaas", "gateway"))
    assert found.variables == {
        "OPENFAAS_GATEWAY": "http://gateway.openfaas:8080",
        "gateway_hostname": "gateway.openfaas",
    }
    assert str(found) == "http://gateway.openfaas:8080, http://gateway:8080"


def test_on_a_machine_without_a_hosts_file_the_variables_name_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "HOSTS", str(tmp_path / "none"))
    found = access(settings(tmp_path), GATE)
    assert found is not None and found.url == "http://127.68.1.2:8080"
    assert str(found) == "http://127.68.1.2:8080 (in OPENFAAS_GATEWAY; without a name)"


@pytest.mark.parametrize(
    ("address", "url", "host"),
    [
        ("127.0.0.1:31112", "http://127.0.0.1:31112", "127.0.0.1"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080", "127.0.0.1"),
        ("[::]:8080", "http://[::1]:8080", "[::1]"),
        ("10.1.2.3:8080", "http://10.1.2.3:8080", "10.1.2.3"),
    ],
)
def test_without_an_own_listener_the_variables_have_the_gateways_address(
    tmp_path: Path, address: str, url: str, host: str
) -> None:
    found = access(settings(tmp_path, gateway=address), None)
    assert found is not None
    assert found.variables == {"OPENFAAS_GATEWAY": url, "gateway_hostname": host}
    assert found.names == ()


@pytest.mark.parametrize("gate", [None, GATE])
def test_gateway_names_can_be_switched_off(tmp_path: Path, gate: IPv4Address | None) -> None:
    assert access(settings(tmp_path, gateway_names=False), gate) is None


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("http://rescoldo-gateway.rescoldo.svc", "http://rescoldo-gateway.rescoldo.svc:80"),
        ("https://gateway.example.com", "https://gateway.example.com:443"),
        ("http://10.1.2.3:8080", "http://10.1.2.3:8080"),
    ],
)
@pytest.mark.parametrize("gate", [None, GATE])
def test_a_workers_functions_find_their_clusters_gateway(
    tmp_path: Path, url: str, seen: str, gate: IPv4Address | None
) -> None:
    found = access(settings(tmp_path, join="https://control:8443", functions_gateway=url), gate)
    assert found is not None and (found.url, found.names) == (seen, ())


def test_a_workers_functions_never_find_the_workers_own_edge(tmp_path: Path) -> None:
    assert access(settings(tmp_path, join="https://control:8443"), GATE) is None
