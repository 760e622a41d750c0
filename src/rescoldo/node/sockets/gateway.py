"""How functions find the platform's gateway, to call each other: names in /etc/hosts, and variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from rescoldo.isolation.hosts import HOSTS
from rescoldo.model.settings import Settings

NAMES = ("gateway.openfaas", "gateway")  # as on OpenFaaS
PORT = 8080  # of the gateway at its names, whatever port it has elsewhere
_ANY = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # an address to listen at, and one to connect to


@dataclass(frozen=True, slots=True)
class GatewayAccess:
    """Where the gateway is for functions; `names` mean that address to them, unless there are none."""

    address: str
    port: int
    names: tuple[str, ...] = ()
    scheme: str = "http"

    @property
    def host(self) -> str:
        return self.names[0] if self.names else self.address

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def variables(self) -> Mapping[str, str]:
        """Environment variables of every function, where it does not set its own."""
        return {"OPENFAAS_GATEWAY": self.url, "gateway_hostname": self.host}

    def __str__(self) -> str:
        """As `rescoldo describe` shows it."""
        if not self.names:
            return f"{self.url} (in OPENFAAS_GATEWAY; without a name)"
        return ", ".join(f"{self.scheme}://{name}:{self.port}" for name in self.names)


def access(settings: Settings, gate: IPv4Address | None) -> GatewayAccess | None:
    """How the functions of a platform find its gateway; None where that is switched off. `gate` is the address of the
    listener for instances, where there is one."""
    if not settings.gateway_names:
        return None
    if gate is None:
        host, _, port = settings.gateway.rpartition(":")
        return GatewayAccess(_ANY.get(host, host), int(port), scheme=settings.scheme)
    if not Path(HOSTS).is_file():  # nothing that could be covered, and nothing of the machine's is changed
        return GatewayAccess(str(gate), PORT)
    return GatewayAccess(str(gate), PORT, NAMES)
