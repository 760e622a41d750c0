"""Names, labels and ports that the objects of an installation share, as control, gateways and workers expect them."""

from __future__ import annotations

from rescoldo.install.placeholders import NAMESPACE, Field, Place, Text, Tree, Variable

CONTROL, GATEWAY, WORKER = "rescoldo-control", "rescoldo-gateway", "rescoldo-worker"
BUILD = "rescoldo-build"  # PodTemplate of builds, and their account
LOGIN = "rescoldo-login"  # Secret with basic-auth-user and basic-auth-password
POOLS, CONTROL_KEYS = "rescoldo-pools", "rescoldo-control-keys"  # Secrets that gateways read
AUTHORITY = "rescoldo-authority"  # gateways get its certificate, and not its key
IDENTITY = "rescoldo-identity"  # Secret of a pool
MADE_BY_CONTROL = "app.kubernetes.io/managed-by=rescoldo"  # label of Secrets: no installation makes them
# labels of functions' Secrets that control has made, not users with kubectl
FUNCTION_SECRET = "rescoldo.dev/secret=true,app.kubernetes.io/created-by=rescoldo"

NAME_LABEL, COMPONENT_LABEL = "app.kubernetes.io/name", "app.kubernetes.io/component"
VERSION_LABEL = "app.kubernetes.io/version"
INSTALL_LABEL = "rescoldo.dev/install"  # the namespace of the installation that an object belongs to
HOSTNAME = "kubernetes.io/hostname"
NAMESPACE_LABEL = "kubernetes.io/metadata.name"  # which each namespace has
KEEP = {"helm.sh/resource-policy": "keep"}  # annotation: `helm uninstall` leaves it
POD_SECURITY = "pod-security.kubernetes.io/enforce"

API_PORT, LINK_PORT = 8080, 8443  # control's
GATEWAY_PORT = 8080
WORKER_PORT, METRICS_PORT = 8080, 8082
TLS_PORT = 8443  # of workers that speak TLS to gateways
TLS_PORT_NAME = "gateways-tls"  # of this port: gateways look for it in the pods (gateway/pods.py)

SYSTEM = Field(NAMESPACE)
POOL = Variable("pool")  # a namespace of functions
FUNCTION_NAMESPACES = Field("functionNamespaces")
GATEWAY_URL = Text(f"http://{GATEWAY}.{{}}.svc", (SYSTEM,))


def selector(component: str) -> dict[str, Tree]:
    """Return the labels that choose the pods of a part."""
    return {NAME_LABEL: "rescoldo", COMPONENT_LABEL: component}


def labels(component: str) -> dict[str, Tree]:
    """Return the labels of an object of ours. An installation finds by them what is its own."""
    return {**selector(component), "app.kubernetes.io/part-of": "rescoldo", INSTALL_LABEL: SYSTEM}


def meta(name: Tree, component: str, namespace: Place | None = SYSTEM) -> dict[str, Tree]:
    """Return the metadata of an object; `namespace` is None for kinds that have none."""
    where: dict[str, Tree] = {} if namespace is None else {"namespace": namespace}
    return {"name": name, **where, "labels": labels(component)}
