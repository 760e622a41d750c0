"""Namespaces, service accounts, and what they may do in the Kubernetes API.

docs/kubernetes.md has the reason of each verb.
"""

from __future__ import annotations

from collections.abc import Sequence

from rescoldo.install.names import (
    BUILD,
    CONTROL,
    FUNCTION_NAMESPACES,
    GATEWAY,
    KEEP,
    POD_SECURITY,
    POOL,
    SYSTEM,
    WORKER,
    meta,
)
from rescoldo.install.placeholders import Each, Equal, Field, Place, Text, Tree, When
from rescoldo.install.values import FULL

RBAC = "rbac.authorization.k8s.io"
BUILDS = Field("build.enabled")
WRITE = ["get", "list", "watch", "create", "update", "patch", "delete"]


def system_namespace() -> list[Tree]:
    """Return the namespace of gateways and control. Helm makes it itself (`--create-namespace`)."""
    return [When(Field("createNamespaces"), [_namespace(SYSTEM, "restricted")])]


def function_namespaces() -> list[Tree]:
    """Return the namespaces of functions. They outlive the installation in Helm, and so do the functions in them."""
    level = When(Equal(Field("worker.isolation"), FULL), "privileged", "restricted")
    each = _namespace(POOL, level, dict(KEEP))
    return [When(Field("createNamespaces"), [Each(FUNCTION_NAMESPACES, (POOL,), [each])])]


def service_accounts() -> list[Tree]:
    """Return who control, gateways and workers are; no pod gets a token by itself."""
    return [
        _account(CONTROL, "control", SYSTEM),
        _account(GATEWAY, "gateway", SYSTEM),
        Each(FUNCTION_NAMESPACES, (POOL,), [_account(WORKER, "worker", POOL)]),
        When(BUILDS, [Each(FUNCTION_NAMESPACES, (POOL,), [_account(BUILD, "build", POOL)])]),
    ]


def rights() -> list[Tree]:
    """Return the roles and who has them. Workers and builds have none."""
    return [
        *_cluster_role("control", CONTROL, _control_rules()),
        *_secrets_role(SYSTEM),
        Each(FUNCTION_NAMESPACES, (POOL,), [*_secrets_role(POOL), *_pods_role(POOL)]),
        When(BUILDS, [Each(FUNCTION_NAMESPACES, (POOL,), _builds_role())]),
    ]


def _control_rules() -> list[Tree]:
    return [
        _rule("rescoldo.dev", ["functions", "functions/status", "functions/finalizers"], WRITE),
        _rule("apps", ["controllerrevisions"], ["get", "list", "watch", "create", "delete"]),
    ]


def _rule(group: str, resources: Sequence[str], verbs: Sequence[str]) -> dict[str, Tree]:
    return {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}


def _namespace(name: Place, level: Tree, annotations: dict[str, Tree] | None = None) -> dict[str, Tree]:
    about = meta(name, "namespace", None)
    about["labels"] = {**about["labels"], POD_SECURITY: level}  # type: ignore[dict-item]  # labels are a table
    if annotations:
        about["annotations"] = annotations
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": about}


def _account(name: str, component: str, namespace: Place) -> dict[str, Tree]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": meta(name, component, namespace),
        "automountServiceAccountToken": False,
    }


def _cluster_role(component: str, account: str, rules: list[Tree]) -> list[Tree]:
    """Return a ClusterRole and its binding, named after the installation: a cluster may have several."""
    about = meta(Text(f"rescoldo:{{}}:{component}", (SYSTEM,)), component, None)
    return [
        {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": about, "rules": rules},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": about,
            **_binding("ClusterRole", about["name"], account),
        },
    ]


def _secrets_role(namespace: Place) -> list[Tree]:
    """Return control's right to the secrets of one namespace."""
    return _role("rescoldo-control-secrets", "control", CONTROL, namespace, [_rule("", ["secrets"], WRITE)])


def _pods_role(namespace: Place) -> list[Tree]:
    """Return the gateways' right to see the workers' pods of one namespace."""
    return _role("rescoldo-gateway-pods", "gateway", GATEWAY, namespace, [_rule("", ["pods"], ["list", "watch"])])


def _builds_role() -> list[Tree]:
    """Return control's right to make builds' pods in a namespace of functions, from the template there."""
    template = {**_rule("", ["podtemplates"], ["get"]), "resourceNames": [BUILD]}
    pods = _rule("", ["pods"], ["list", "watch", "create", "delete"])
    return _role("rescoldo-control-builds", "control", CONTROL, POOL, [pods, template])


def _role(name: str, component: str, account: str, namespace: Place, rules: list[Tree]) -> list[Tree]:
    """Return a Role and its binding."""
    about = meta(name, component, namespace)
    return [
        {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": about, "rules": rules},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": about,
            **_binding("Role", name, account),
        },
    ]


def _binding(kind: str, role: Tree, account: str) -> dict[str, Tree]:
    return {
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": SYSTEM}],
    }
