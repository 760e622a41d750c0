"""The doors of an installation for clients outside of the cluster: an Ingress, an HTTPRoute, a load balancer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from rescoldo.install.reading import set_values
from rescoldo.install.rendering import render
from rescoldo.install.stages import stages
from rescoldo.install.values import Values
from support.gateway_api import routes_definition
from support.installations import GATEWAY_IP
from support.installed import Installed
from support.testcluster import KubectlFailed, kubectl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DOORS = [
    "gateway.service.type=LoadBalancer",
    "gateway.service.loadBalancerClass=example.com/fast",
    "gateway.ingress.host=functions.example.com",
    "gateway.ingress.className=nginx",
    "gateway.ingress.tlsSecret=functions-tls",
    "gateway.route.parent=web",
    "gateway.route.parentNamespace=doors",
    "gateway.route.sectionName=https",
    'gateway.route.hostnames=["functions.example.com"]',
]


@pytest.fixture(scope="module")
def routes(node: bool) -> Iterator[None]:
    """A cluster that knows HTTPRoutes."""
    definition = routes_definition()
    if definition is None:
        pytest.skip("the Gateway API's definitions cannot be downloaded")
    kubectl("apply", "--server-side", "-f", "-", stdin=definition)
    kubectl("wait", "--for=condition=Established", "crd/httproutes.gateway.networking.k8s.io", "--timeout=20s")
    yield
    kubectl("delete", "crd", "httproutes.gateway.networking.k8s.io")


def doors(namespace: str, *settings: str) -> list[dict[str, Any]]:
    values = set_values(Values(image="rescoldo:1"), settings)
    objects = [obj for stage in stages() for obj in render(stage.objects, values)]
    found = [one for one in objects if one["kind"] in ("Ingress", "HTTPRoute", "Service")]
    for one in found:
        one["metadata"]["namespace"] = namespace
    return found


def take(objects: list[dict[str, Any]]) -> list[str]:
    """The objects as the API server would keep them; it refuses what their definitions do not know."""
    flags = ("--server-side", "--dry-run=server", "--validate=strict", "-o", "name", "-f", "-")
    return kubectl("apply", *flags, stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})).split()


def test_the_api_server_takes_every_door(routes: None, namespaces: tuple[str, str]) -> None:
    assert set(take(doors(namespaces[0], *DOORS))) == {
        "service/rescoldo-gateway",
        "service/rescoldo-control",
        "ingress.networking.k8s.io/rescoldo-gateway",
        "httproute.gateway.networking.k8s.io/rescoldo-gateway",
    }


def test_it_would_refuse_one_that_is_wrong(routes: None, namespaces: tuple[str, str]) -> None:
    found = doors(namespaces[0], *DOORS)
    (route,) = [one for one in found if one["kind"] == "HTTPRoute"]
    route["spec"]["hostname"] = route["spec"].pop("hostnames")[0]
    with pytest.raises(KubectlFailed, match="hostname"):
        take([route])


def test_verbs_find_the_address_that_a_load_balancer_gives(installed: Installed) -> None:
    service = {"type": "LoadBalancer", "clusterIP": GATEWAY_IP}
    try:
        installed.install("--no-probe", gateway={"service": service})
        # what a cloud's controller would write; this address leads to the gateways, from this machine, too
        status = {"status": {"loadBalancer": {"ingress": [{"ip": GATEWAY_IP}]}}}
        patch = ("service", "rescoldo-gateway", "-n", "rescoldo", "--subresource=status", "--type=merge")
        kubectl("patch", *patch, "-p", json.dumps(status))
        told = json.loads(installed.verb("status", "--login", "--json"))
        assert told["gateway"] == f"http://{GATEWAY_IP}"
        saved = (installed.folder / ".openfaas" / "config.yml").read_text()
        assert f"http://{GATEWAY_IP}" in saved
    finally:
        installed.install("--no-probe")
