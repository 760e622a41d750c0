"""Gateways: HAProxy and its agent in one pod, their Service, and the ways to it from outside."""

from __future__ import annotations

from rescoldo.install.names import (
    API_PORT,
    AUTHORITY,
    CONTROL,
    CONTROL_KEYS,
    FUNCTION_NAMESPACES,
    GATEWAY,
    GATEWAY_PORT,
    POOL,
    POOLS,
    SYSTEM,
    meta,
    selector,
)
from rescoldo.install.objects.pods import (
    TOKEN,
    apart,
    container,
    deployment,
    disruption_budget,
    http_probe,
    memory_folder,
    mount,
    pod,
    token,
)
from rescoldo.install.placeholders import Each, Field, Sum, Text, Tree, Variable, When
from rescoldo.install.values import END_SECONDS

FOLDER = "/run/rescoldo"
HTTP = 80  # the Service's port, which GATEWAY_URL leaves out
SECRETS_FOLDER = "/etc/rescoldo/secrets"
CERTIFICATE: dict[str, Tree] = {"key": "tls.crt", "path": "tls.crt"}  # of a Secret that has a key, too
INGRESS, ROUTE = Field("gateway.ingress.host"), Field("gateway.route.parent")


def gateways() -> list[Tree]:
    """Return the gateways and the ways to them."""
    spec: dict[str, Tree] = {
        "replicas": Field("gateway.replicas"),
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "revisionHistoryLimit": 3,
    }
    return [
        _service(),
        deployment(GATEWAY, "gateway", SYSTEM, _pod(), spec),
        When(Field("disruptionBudgets"), [disruption_budget(GATEWAY, "gateway", SYSTEM)]),
        When(INGRESS, [_ingress()]),
        When(ROUTE, [_route()]),
    ]


def _pod() -> dict[str, Tree]:
    longest = Text("{}s", (Field("gateway.drainTimeoutSeconds"),))
    drain: list[Tree] = ["rescoldo", "kubernetes", "gateway-drain", "--folder", FOLDER, "--drain-timeout", longest]
    hook: dict[str, Tree] = {"lifecycle": {"preStop": {"exec": {"command": drain}}}}
    return pod(
        "gateway",
        "gateway",
        {
            "serviceAccountName": GATEWAY,
            "terminationGracePeriodSeconds": Sum(Field("gateway.drainTimeoutSeconds"), END_SECONDS),
            "affinity": apart("gateway"),
            "containers": [_haproxy(hook), _agent(hook)],
            "volumes": [
                memory_folder("run", "64Mi"),
                {"name": "tmp", "emptyDir": {}},
                token(),
                {"name": "pools", "secret": {"secretName": POOLS}},
                {"name": "control", "secret": {"secretName": CONTROL_KEYS}},
                {"name": "authority", "secret": {"secretName": AUTHORITY, "items": [CERTIFICATE]}},
            ],
        },
    )


def _haproxy(hook: dict[str, Tree]) -> dict[str, Tree]:
    more: dict[str, Tree] = {
        "ports": [{"name": "http", "containerPort": GATEWAY_PORT}],
        "startupProbe": http_probe("http", 1, 120),
        "readinessProbe": http_probe("http", 1, 2),
        # /healthz is 503 until the agent knows the workers, which no restart of HAProxy would mend
        "livenessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 10, "failureThreshold": 6},
        "volumeMounts": [mount("run", FOLDER), mount("tmp", "/tmp")],
        **hook,
    }
    return container("haproxy", ["kubernetes", "gateway", "--folder", FOLDER], "gateway.resources", more)


def _agent(hook: dict[str, Tree]) -> dict[str, Tree]:
    args: list[Tree] = [
        *("kubernetes", "gateway-agent", "--folder", FOLDER),
        *("--control-address", Text(f"{CONTROL}.{{}}.svc:{API_PORT}", (SYSTEM,))),
        Each(FUNCTION_NAMESPACES, (POOL,), ["--namespace", POOL]),
        *("--secrets", SECRETS_FOLDER),
        # a handshake needs cpu on both sides, and giving it up needs another one
        When(Field("gateway.tlsToWorkers"), ["--connect-timeout", "2s"]),
    ]
    more: dict[str, Tree] = {
        "volumeMounts": [
            mount("run", FOLDER),
            mount("tmp", "/tmp"),
            mount("token", TOKEN, read_only=True),
            mount("pools", f"{SECRETS_FOLDER}/pools", read_only=True),
            mount("control", f"{SECRETS_FOLDER}/control", read_only=True),
            mount("authority", f"{SECRETS_FOLDER}/authority", read_only=True),
        ],
        **hook,
    }
    return container("agent", args, "gateway.agentResources", more)


def _service() -> dict[str, Tree]:
    values = "gateway.service"
    kind, port, address = Field(f"{values}.type"), Field(f"{values}.nodePort"), Field(f"{values}.clusterIP")
    annotations, balancer = Field(f"{values}.annotations"), Field(f"{values}.loadBalancerClass")
    policy = Field(f"{values}.externalTrafficPolicy")
    about = meta(GATEWAY, "gateway") | {"annotations": When(annotations, annotations)}
    http: dict[str, Tree] = {"name": "http", "port": HTTP, "targetPort": "http"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": about,
        "spec": {
            "type": kind,
            "clusterIP": When(address, address),
            "loadBalancerClass": When(balancer, balancer),
            "externalTrafficPolicy": When(policy, policy),
            "selector": selector("gateway"),
            "ports": [{**http, "nodePort": When(port, port)}],
        },
    }


def _ingress() -> dict[str, Tree]:
    values = "gateway.ingress"
    annotations, name = Field(f"{values}.annotations"), Field(f"{values}.className")
    secret = Field(f"{values}.tlsSecret")
    service: Tree = {"service": {"name": GATEWAY, "port": {"name": "http"}}}
    path: Tree = {"path": "/", "pathType": "Prefix", "backend": service}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": meta(GATEWAY, "gateway") | {"annotations": When(annotations, annotations)},
        "spec": {
            "ingressClassName": When(name, name),
            "tls": When(secret, [{"hosts": [INGRESS], "secretName": secret}]),
            "rules": [{"host": INGRESS, "http": {"paths": [path]}}],
        },
    }


def _route() -> dict[str, Tree]:
    values = "gateway.route"
    place, part = Field(f"{values}.parentNamespace"), Field(f"{values}.sectionName")
    names, host = Field(f"{values}.hostnames"), Variable("host")
    parent: Tree = {"name": ROUTE, "namespace": When(place, place), "sectionName": When(part, part)}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": meta(GATEWAY, "gateway"),
        "spec": {
            "parentRefs": [parent],
            "hostnames": When(names, [Each(names, (host,), [host])]),
            "rules": [{"backendRefs": [{"name": GATEWAY, "port": HTTP}]}],
        },
    }
