"""What all pods of an installation have in common: Pod Security restricted, a read-only root, any uid."""

from __future__ import annotations

from collections.abc import Sequence

from rescoldo.install.names import HOSTNAME, labels, meta, selector
from rescoldo.install.placeholders import Each, Field, Place, Tree, Variable, When

TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_SECONDS = 3607  # kubelet replaces it when a fifth is left, as it does with tokens that it mounts by itself
# no privileges, no way to more of them
CONTAINER_SECURITY: dict[str, Tree] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def deployment(name: str, component: str, namespace: Place, pod: Tree, spec: dict[str, Tree]) -> dict[str, Tree]:
    """Return a Deployment of pods made by `pod`."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta(name, component, namespace),
        "spec": {**spec, "selector": {"matchLabels": selector(component)}, "template": pod},
    }


def pod(component: str, values: str, spec: dict[str, Tree]) -> dict[str, Tree]:
    """Return the template of a part's pods; `values` is the path of its section."""
    annotations = Field(f"{values}.pod.annotations")
    return {
        "metadata": {"labels": labels(component), "annotations": When(annotations, annotations)},
        "spec": {
            **spec,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "imagePullSecrets": When(Field("imagePullSecrets"), _pull_secrets()),
            **_placement(f"{values}.pod"),
        },
    }


def container(name: str, args: Sequence[Tree], resources: str, more: dict[str, Tree]) -> dict[str, Tree]:
    """Return a container of rescoldo's image; `resources` is a path of the values."""
    user = Field("runAsUser")
    return {
        "name": name,
        "image": Field("image"),
        "imagePullPolicy": Field("imagePullPolicy"),
        "args": list(args),
        "resources": Field(resources),
        "securityContext": {**CONTAINER_SECURITY, "runAsUser": When(user, user)},
        **more,
    }


def http_probe(port: str, period: int, failures: int, path: str = "/healthz") -> dict[str, Tree]:
    """Return a probe that fails after `failures` answers that are no success, `period` seconds apart."""
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": max(2, period),
        "failureThreshold": failures,
    }


def memory_folder(name: str, size: Tree) -> dict[str, Tree]:
    """Return a volume in memory; what is in it counts as memory of the container that wrote it."""
    return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": size}}


def mount(name: str, path: str, *, read_only: bool = False) -> dict[str, Tree]:
    """Return where a container sees a volume."""
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}


def token() -> dict[str, Tree]:
    """Return a volume with a token, for the containers alone that mount it."""
    downward: Tree = {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}
    sources: list[Tree] = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [downward]}},
    ]
    return {"name": "token", "projected": {"sources": sources}}


def disruption_budget(name: str, component: str, namespace: Place) -> dict[str, Tree]:
    """Return the rule that nodes are drained of one pod of a part at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": meta(name, component, namespace),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector(component)}},
    }


def _pull_secrets() -> list[Tree]:
    secret = Variable("secret")
    return [Each(Field("imagePullSecrets"), (secret,), [{"name": secret}])]


def apart(component: str) -> dict[str, Tree]:
    """Prefer nodes that have no pod of this part yet, so that the loss of a node is not the loss of all of them."""
    term: Tree = {"labelSelector": {"matchLabels": selector(component)}, "topologyKey": HOSTNAME}
    preferred: list[Tree] = [{"weight": 100, "podAffinityTerm": term}]
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}


def _placement(values: str) -> dict[str, Tree]:
    keys = ("nodeSelector", "tolerations", "priorityClassName", "topologySpreadConstraints", "hostAliases")
    return {key: When(Field(f"{values}.{key}"), Field(f"{values}.{key}")) for key in keys}
