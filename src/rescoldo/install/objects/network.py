"""NetworkPolicies: each part reaches what it needs and nothing else. Every door authenticates all the same."""

from __future__ import annotations

from rescoldo.install.names import (
    API_PORT,
    BUILD,
    CONTROL,
    FUNCTION_NAMESPACES,
    GATEWAY,
    GATEWAY_PORT,
    LINK_PORT,
    METRICS_PORT,
    NAMESPACE_LABEL,
    POOL,
    SYSTEM,
    TLS_PORT,
    WORKER,
    WORKER_PORT,
    meta,
    selector,
)
from rescoldo.install.placeholders import Each, Field, Place, Tree, Variable, When

WORKER_PORTS = (WORKER_PORT, TLS_PORT, METRICS_PORT)  # whether they speak TLS or not: a roll-out has both
DNS: Tree = {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}
METRICS_FROM = Field("networkPolicies.metricsFrom")
FUNCTION_EGRESS = Field("networkPolicies.functionEgress")
BUILD_EGRESS = Field("networkPolicies.buildEgress")
BUILDS = Field("build.enabled")


def policies() -> list[Tree]:
    """Return the policies of all parts."""
    workers: Tree = Each(FUNCTION_NAMESPACES, (POOL,), [_worker()])
    builds: Tree = When(BUILDS, [Each(FUNCTION_NAMESPACES, (POOL,), [_build()])])
    return [When(Field("networkPolicies.enabled"), [_gateway(), _control(), workers, builds])]


def _gateway() -> dict[str, Tree]:
    return _policy(
        GATEWAY,
        "gateway",
        SYSTEM,
        ingress=[{"ports": [_port(GATEWAY_PORT)]}],  # the front door: from everywhere
        egress=[_to([_any("worker")], *WORKER_PORTS), _to([_part("control")], API_PORT), _api_server(), DNS],
    )


def _control() -> dict[str, Tree]:
    return _policy(
        CONTROL,
        "control",
        SYSTEM,
        ingress=[
            _from([_part("gateway")], API_PORT),
            _from([_any("worker"), _any("build")], LINK_PORT),
            *_metrics(API_PORT),
        ],
        egress=[_to([_part("gateway")], GATEWAY_PORT), _api_server(), DNS],
    )


def _worker() -> dict[str, Tree]:
    rule = Variable("rule")
    return _policy(
        WORKER,
        "worker",
        POOL,
        ingress=[_from([_part("gateway")], *WORKER_PORTS), *_metrics(METRICS_PORT)],
        egress=[
            _to([_part("control")], LINK_PORT),
            _to([_part("gateway")], GATEWAY_PORT),  # functions call each other
            DNS,
            Each(FUNCTION_EGRESS, (rule,), [rule]),
        ],
    )


def _build() -> dict[str, Tree]:
    """Packages' code runs there: nobody reaches it, and it reaches what the user lets it reach."""
    rule = Variable("rule")
    egress: list[Tree] = [_to([_part("control")], LINK_PORT), DNS, Each(BUILD_EGRESS, (rule,), [rule])]
    return _policy(BUILD, "build", POOL, ingress=[], egress=egress)


def _policy(name: str, component: str, namespace: Place, *, ingress: list[Tree], egress: list[Tree]) -> dict[str, Tree]:
    # the API server stores no empty list, and would take each installation for a change
    allowed: dict[str, Tree] = {"ingress": ingress} if ingress else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(name, component, namespace),
        "spec": {
            "podSelector": {"matchLabels": selector(component)},
            "policyTypes": ["Ingress", "Egress"],
            **allowed,
            "egress": egress,
        },
    }


def _part(component: str) -> dict[str, Tree]:
    """Return the pods of gateways or control, seen from any namespace."""
    return {
        "namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: SYSTEM}},
        "podSelector": {"matchLabels": selector(component)},
    }


def _any(component: str) -> dict[str, Tree]:
    """Return the pods of workers or builds, in all namespaces of functions."""
    found: Tree = {"key": NAMESPACE_LABEL, "operator": "In", "values": FUNCTION_NAMESPACES}
    return {
        "namespaceSelector": {"matchExpressions": [found]},
        "podSelector": {"matchLabels": selector(component)},
    }


def _api_server() -> dict[str, Tree]:
    """Return egress to the Kubernetes API, which is no pod in most clusters: no selector finds it, its ports do."""
    port = Variable("port")
    return {"ports": [Each(Field("networkPolicies.apiPorts"), (port,), [{"protocol": "TCP", "port": port}])]}


def _metrics(port: int) -> list[Tree]:
    return [When(METRICS_FROM, [{"from": METRICS_FROM, "ports": [_port(port)]}])]


def _port(number: int) -> dict[str, Tree]:
    return {"protocol": "TCP", "port": number}


def _to(peers: list[Tree], *ports: int) -> dict[str, Tree]:
    return {"to": peers, "ports": list(map(_port, ports))}


def _from(peers: list[Tree], *ports: int) -> dict[str, Tree]:
    return {"from": peers, "ports": list(map(_port, ports))}
