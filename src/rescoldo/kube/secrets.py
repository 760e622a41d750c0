"""The kind Secret, from and to bytes."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping

from rescoldo.kube.protocol import Object, Resource

SECRETS = Resource("", "v1", "Secret", "secrets")


def secret_object(name: str, namespace: str, values: Mapping[str, bytes], labels: Mapping[str, str]) -> Object:
    """A Secret to create."""
    return {
        "apiVersion": SECRETS.api_version,
        "kind": SECRETS.kind,
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "data": encoded(values),
    }


def encoded(values: Mapping[str, bytes]) -> dict[str, str]:
    """Values as a Secret's `data` has them."""
    return {key: b64encode(value).decode() for key, value in values.items()}


def values_of(obj: Object) -> dict[str, bytes]:
    """The values of a Secret, by key."""
    return {key: b64decode(value) for key, value in (obj.get("data") or {}).items()}


def labels_of(obj: Object) -> dict[str, str]:
    """The labels of an object."""
    return dict(obj["metadata"].get("labels") or {})
