"""Where the gateways of an installation are reached from outside of the cluster, and by which password."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass

from rescoldo.install.kinds import INGRESSES, NODES, ROUTES, SECRETS, SERVICES
from rescoldo.install.names import GATEWAY, LOGIN
from rescoldo.kube.errors import Forbidden
from rescoldo.kube.protocol import Cluster, Object, Resource
from rescoldo.model.errors import NotFound, RescoldoError

# of a node, in the order in which they are tried
ADDRESSES = ("ExternalIP", "InternalIP")


@dataclass(frozen=True, slots=True)
class Door:
    """An address of the gateways. It may not lead there from this machine."""

    url: str
    how: str  # what gives it: `ingress`, `load balancer` …


async def find_doors(cluster: Cluster, system: str) -> list[Door]:
    """Return the addresses that lead to the gateways of an installation, the best first.

    The Service's own address is none of them: on a user's machine it may lead to somebody else's, who would get the
    password.
    """
    doors = [
        *_of_ingress(await _find(cluster, INGRESSES, system)),
        *_of_route(await _find(cluster, ROUTES, system)),
    ]
    service = await _find(cluster, SERVICES, system)
    doors += _of_balancer(service)
    if service and service["spec"].get("type") == "NodePort":
        doors += _of_nodes(service, await _nodes(cluster))
    return doors


async def read_login(cluster: Cluster, system: str) -> tuple[str, str]:
    """Return user and password of an installation. Raises RescoldoError where control has not made them."""
    try:
        data = (await cluster.get(SECRETS, LOGIN, system)).get("data") or {}
        user, password = (
            base64.b64decode(data[f"basic-auth-{part}"], validate=True).decode() for part in ("user", "password")
        )
    except NotFound as error:
        raise RescoldoError(f"secret {system}/{LOGIN} does not exist: control makes it at its first start") from error
    except (KeyError, ValueError, binascii.Error) as error:
        raise RescoldoError(f"secret {system}/{LOGIN} has no basic-auth-user and basic-auth-password") from error
    return user, password


def _of_ingress(ingress: Object) -> Iterator[Door]:
    spec = ingress.get("spec") or {}
    secured = {host for each in spec.get("tls") or () for host in each.get("hosts") or ()}
    for rule in spec.get("rules") or ():
        if host := rule.get("host"):
            yield Door(f"{'https' if host in secured else 'http'}://{host}", "ingress")


def _of_route(route: Object) -> Iterator[Door]:
    """Yield a route's host names; whether its parent speaks TLS, the route does not say."""
    for host in (route.get("spec") or {}).get("hostnames") or ():
        if not host.startswith("*"):
            yield from (Door(f"{scheme}://{host}", "route") for scheme in ("https", "http"))


def _of_balancer(service: Object) -> Iterator[Door]:
    for entry in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
        if address := entry.get("hostname") or entry.get("ip"):
            yield Door(f"http://{_bracketed(address)}", "load balancer")


def _of_nodes(service: Object, nodes: list[Object]) -> Iterator[Door]:
    port = service["spec"]["ports"][0].get("nodePort")
    for kind in ADDRESSES:
        for node in nodes:
            for entry in (node.get("status") or {}).get("addresses") or ():
                if port and entry["type"] == kind:
                    yield Door(f"http://{_bracketed(entry['address'])}:{port}", "node port")


async def _nodes(cluster: Cluster) -> list[Object]:
    try:
        return [obj async for page in cluster.list(NODES) for obj in page.items]
    except Forbidden:
        return []


async def _find(cluster: Cluster, kind: Resource, system: str) -> Object:
    try:
        return await cluster.get(kind, GATEWAY, system)
    except (NotFound, Forbidden):
        return {}


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
