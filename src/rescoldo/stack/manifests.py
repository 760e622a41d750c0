"""Writes functions as Kubernetes objects: OpenFaaS's Function and Knative's Service.

Sources: https://docs.openfaas.com/openfaas-pro/function-crd and https://github.com/knative/specs (Knative Serving API).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rescoldo.model.function import FunctionSpec
from rescoldo.model.scaling import KNATIVE, SCALE

SECRETS = "/var/openfaas/secrets"


def openfaas_function(spec: FunctionSpec) -> dict[str, Any]:
    """Return an openfaas.com/v1 Function."""
    return {
        "apiVersion": "openfaas.com/v1",
        "kind": "Function",
        "metadata": {"name": spec.name, "namespace": spec.namespace},
        "spec": _filled(
            {
                "name": spec.name,
                "image": spec.image,
                "handler": spec.env_process,
                "labels": dict(spec.labels),
                "annotations": dict(spec.annotations),
                "environment": dict(spec.env_vars),
                "constraints": list(spec.constraints),
                "secrets": list(spec.secrets),
                "limits": dict(spec.limits),
                "requests": dict(spec.requests),
                "readOnlyRootFilesystem": spec.read_only_root_filesystem,
            }
        ),
    }


def knative_service(spec: FunctionSpec) -> dict[str, Any]:
    """Return a serving.knative.dev/v1 Service; OpenFaaS's scaling bounds become Knative's.

    Constraints are left out: Knative refuses node selectors unless its cluster allows them.
    """
    environment = {"fprocess": spec.env_process, **spec.env_vars} if spec.env_process else spec.env_vars
    container = {
        "image": spec.image,
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "resources": _filled({"limits": dict(spec.limits), "requests": dict(spec.requests)}),
        "securityContext": _filled({"readOnlyRootFilesystem": spec.read_only_root_filesystem}),
        "volumeMounts": [
            {"name": name, "mountPath": f"{SECRETS}/{name}", "subPath": name, "readOnly": True} for name in spec.secrets
        ],
    }
    template = {
        "metadata": _filled({"labels": dict(spec.labels), "annotations": _knative_annotations(spec)}),
        "spec": _filled(
            {
                "containers": [_filled(container)],
                "volumes": [{"name": name, "secret": {"secretName": name}} for name in spec.secrets],
            }
        ),
    }
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": spec.name, "namespace": spec.namespace},
        "spec": {"template": _filled(template)},
    }


APIS: Mapping[str, Callable[[FunctionSpec], dict[str, Any]]] = {
    "openfaas.com/v1": openfaas_function,
    "serving.knative.dev/v1": knative_service,
}


def _knative_annotations(spec: FunctionSpec) -> dict[str, str]:
    bounds = {
        f"{KNATIVE}{bound}-scale": spec.labels[SCALE + bound]
        for bound in ("min", "max")
        if SCALE + bound in spec.labels
    }
    return bounds | dict(spec.annotations)


def _filled(table: dict[str, Any]) -> dict[str, Any]:
    """Drop empty and false values: they are the defaults of all these keys."""
    return {key: value for key, value in table.items() if value}
