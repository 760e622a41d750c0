"""The kinds of objects of an installation, as the Kubernetes API has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rescoldo.kube.protocol import Resource

RBAC = "rbac.authorization.k8s.io"
DEPLOYMENTS = Resource("apps", "v1", "Deployment", "deployments")
NAMESPACES = Resource("", "v1", "Namespace", "namespaces", namespaced=False)
SECRETS = Resource("", "v1", "Secret", "secrets")
NODES = Resource("", "v1", "Node", "nodes", namespaced=False)
SERVICES = Resource("", "v1", "Service", "services")
CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps")
CLAIMS = Resource("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
INGRESSES = Resource("networking.k8s.io", "v1", "Ingress", "ingresses")
ROUTES = Resource("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes")
# in the order in which an uninstallation deletes them: what runs first, rights and accounts last
KINDS = (
    INGRESSES,
    ROUTES,
    SERVICES,
    DEPLOYMENTS,
    Resource("", "v1", "PodTemplate", "podtemplates"),  # builds' pods and their Secrets go with it
    Resource("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    Resource("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    CLAIMS,
    Resource(RBAC, "v1", "RoleBinding", "rolebindings"),
    Resource(RBAC, "v1", "Role", "roles"),
    Resource(RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False),
    Resource(RBAC, "v1", "ClusterRole", "clusterroles", namespaced=False),
    Resource("", "v1", "ServiceAccount", "serviceaccounts"),
    DEFINITIONS,
    NAMESPACES,
)
_BY_KIND = {(kind.api_version, kind.kind): kind for kind in KINDS}


def kind_of(obj: Mapping[str, Any]) -> Resource:
    """Return the kind of an object of an installation."""
    return _BY_KIND[obj["apiVersion"], obj["kind"]]


def said(obj: Mapping[str, Any]) -> str:
    """Return how people call an object: `deployment openfaas-fn/rescoldo-worker`."""
    meta = obj["metadata"]
    place = f"{meta['namespace']}/" if "namespace" in meta else ""
    return f"{obj['kind'].lower()} {place}{meta['name']}"
