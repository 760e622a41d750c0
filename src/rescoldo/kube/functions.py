"""A deployment as an object of the kind Function, and back.

Field names are OpenFaaS's, as in `spec_to_json`; `service` and `namespace` are the object's own name and namespace.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rescoldo.kube.protocol import Object, Resource
from rescoldo.model.errors import TooLarge
from rescoldo.model.function import FunctionSpec, spec_from_json, spec_to_json

FUNCTIONS = Resource("rescoldo.dev", "v1", "Function", "functions", has_status=True)
# bytes of a spec as JSON: what the HTTP API takes. etcd takes 1.5 MiB, in which labels, annotations and the status that
# others add have room.
MAX_SPEC = 2**20


def to_object(spec: FunctionSpec) -> Object:
    """Return the Function of `spec`, without empty fields: to apply it removes those that were set before.

    Raises TooLarge.
    """
    fields = spec_to_json(spec)
    meta = {"name": fields.pop("service"), "namespace": fields.pop("namespace")}
    given = {key: value for key, value in fields.items() if value}
    if (size := len(json.dumps(given, ensure_ascii=False).encode("utf-8", "replace"))) > MAX_SPEC:
        raise TooLarge(f"function {spec.name!r}: its deployment has {size} bytes; at most {MAX_SPEC} are allowed")
    return {"apiVersion": FUNCTIONS.api_version, "kind": FUNCTIONS.kind, "metadata": meta, "spec": given}


def from_object(obj: Mapping[str, Any]) -> FunctionSpec:
    """Return the deployment of a Function. Raises InvalidInput for types that the kind's schema does not allow.

    It may not be valid: `accepted` in kube/conditions.py checks it.
    """
    meta = obj["metadata"]
    return spec_from_json({**(obj.get("spec") or {}), "service": meta["name"], "namespace": meta["namespace"]})
