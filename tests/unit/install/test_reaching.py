"""The gateway's address is found in the objects of a cluster, and the password in its secret."""

from __future__ import annotations

import base64

import pytest

from rescoldo.install.kinds import INGRESSES, NODES, ROUTES, SECRETS, SERVICES
from rescoldo.install.reaching import find_doors, read_login
from rescoldo.model.errors import RescoldoError
from support.ready_cluster import ReadyCluster

GATEWAY = "rescoldo-gateway"


async def urls(cluster: ReadyCluster) -> list[str]:
    return [door.url for door in await find_doors(cluster, "rescoldo")]


async def test_a_cluster_address_is_no_door() -> None:
    cluster = ReadyCluster()
    assert await urls(cluster) == []
    await cluster.add(SERVICES, GATEWAY, "rescoldo", spec={"type": "ClusterIP", "clusterIP": "10.0.0.1"})
    assert await urls(cluster) == []


async def test_an_ingress_comes_first_with_tls_if_it_has_it() -> None:
    cluster = ReadyCluster()
    spec = {"tls": [{"hosts": ["a.example.com"]}], "rules": [{"host": "a.example.com"}, {"host": "b.example.com"}]}
    await cluster.add(INGRESSES, GATEWAY, "rescoldo", spec=spec)
    balanced = {"loadBalancer": {"ingress": [{"ip": "2001:db8::1"}, {"hostname": "lb.example.com"}]}}
    await cluster.add(SERVICES, GATEWAY, "rescoldo", spec={"type": "LoadBalancer"}, status=balanced)
    assert await urls(cluster) == [
        "https://a.example.com",
        "http://b.example.com",
        "http://[2001:db8::1]",
        "http://lb.example.com",
    ]


async def test_a_route_has_host_names_and_does_not_say_whether_it_has_tls() -> None:
    cluster = ReadyCluster()
    await cluster.add(ROUTES, GATEWAY, "rescoldo", spec={"hostnames": ["*.example.com", "f.example.com"]})
    assert await urls(cluster) == ["https://f.example.com", "http://f.example.com"]


async def test_a_node_port_is_tried_at_all_nodes_outer_addresses_first() -> None:
    cluster = ReadyCluster()
    await cluster.add(SERVICES, GATEWAY, "rescoldo", spec={"type": "NodePort", "ports": [{"nodePort": 30080}]})
    for name, addresses in {"a": {"InternalIP": "10.0.0.1"}, "b": {"Hostname": "b", "ExternalIP": "1.2.3.4"}}.items():
        status = {"addresses": [{"type": kind, "address": address} for kind, address in addresses.items()]}
        await cluster.add(NODES, name, status=status)
    assert await urls(cluster) == ["http://1.2.3.4:30080", "http://10.0.0.1:30080"]
    cluster.forbidden = {"list"}
    assert await urls(cluster) == []


async def test_the_login_is_read_from_its_secret() -> None:
    cluster = ReadyCluster()
    with pytest.raises(RescoldoError, match="control makes it at its first start"):
        await read_login(cluster, "rescoldo")
    data = {"basic-auth-user": "admin", "basic-auth-password": "open sesame"}
    coded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    await cluster.add(SECRETS, "rescoldo-login", "rescoldo", data=coded)
    assert await read_login(cluster, "rescoldo") == ("admin", "open sesame")


@pytest.mark.parametrize("data", [{}, {"basic-auth-user": "YQ=="}, {f"basic-auth-{part}": "?" for part in
                                                                   ("user", "password")}])  # fmt: skip
async def test_a_broken_login_is_an_error_without_its_text(data: dict[str, str]) -> None:
    cluster = ReadyCluster()
    await cluster.add(SECRETS, "rescoldo-login", "rescoldo", data=data)
    with pytest.raises(RescoldoError, match="has no basic-auth-user"):
        await read_login(cluster, "rescoldo")
