"""How functions find the platform's gateway to call each other: names in /etc/hosts, and environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import urlsplit

from rescoldo.isolation.hosts import HOSTS
from rescoldo.model.settings import Settings

NAMES = ("gateway.openfaas", "gateway")  # as on OpenFaaS
PORT = 8080  # the gateway's port at these names, whatever port it has elsewhere
_PORTS = {"http": 80, "https": 443}
_ANY = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # listening address: the address to connect to


@dataclass(frozen=True, slots=True)
class GatewayAccess:
    """The gateway's address as functions see it. `names`, if any, resolve to `address` inside the functions'
    sandboxes."""

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
        """Environment variables of every function; a function's own values win."""
        return {"OPENFAAS_GATEWAY": self.url, "gateway_hostname": self.host}

    def __str__(self) -> str:
        """The form that `rescoldo describe` shows."""
        if not self.names:
            return f"{self.url} (in OPENFAAS_GATEWAY; without a name)"
        return ", ".join(f"{self.scheme}://{name}:{self.port}" for name in self.names)


def access(settings: Settings, gate: IPv4Address | None) -> GatewayAccess | None:
    """How a platform's functions find its gateway; None where that is switched off. `gate`: the address of the
    listener for instances; None without a fence. Those of a worker call their cluster's gateway."""
    if settings.join is not None:
        return None if settings.functions_gateway is None else _of_cluster(settings.functions_gateway)
    if not settings.gateway_names:
        return None
    if gate is None:
        host, _, port = settings.gateway.rpartition(":")
        return GatewayAccess(_ANY.get(host, host), int(port), scheme=settings.scheme)
    if not Path(HOSTS).is_file():  # no file to mount over in the sandbox, and the machine's own stays unchanged
        return GatewayAccess(str(gate), PORT)
    return GatewayAccess(str(gate), PORT, NAMES)


def _of_cluster(url: str) -> GatewayAccess:
    parts = urlsplit(url)
    assert parts.hostname is not None  # cli/joining.py has checked it
    return GatewayAccess(parts.hostname, parts.port or _PORTS[parts.scheme], scheme=parts.scheme)
