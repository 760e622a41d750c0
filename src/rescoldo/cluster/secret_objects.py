"""A function's secret as an object of Kubernetes: any Secret with a label that a user or control has given it.

Only the label opens a Secret to functions. Those of the platform itself (identities.py) stay closed, label or not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from rescoldo.cluster.identities_kept import LABELS as PLATFORM
from rescoldo.kube.protocol import Object
from rescoldo.kube.secrets import labels_of, secret_object, values_of
from rescoldo.model.errors import InvalidInput
from rescoldo.model.secret import MAX_SECRET

LABEL = "rescoldo.dev/secret"
_MANAGED = "app.kubernetes.io/managed-by"
SELECTOR = f"{LABEL}=true,{_MANAGED}!={PLATFORM[_MANAGED]}"
CREATED = {"app.kubernetes.io/created-by": "rescoldo"}
KEY = "value"  # of those that control makes


@dataclass(frozen=True, slots=True)
class Stored:
    """A Secret that functions may name."""

    namespace: str
    name: str
    uid: str
    version: int  # resourceVersion
    keys: tuple[str, ...]
    mark: bytes = field(repr=False)  # sha256 of the value; empty: the keys do not say which value is meant
    value: bytes | None = field(repr=False)  # None: there is none, or it is too large to be kept


def is_open(obj: Object) -> bool:
    """Whether functions may name a Secret: what SELECTOR asks for."""
    labels = labels_of(obj)
    return labels.get(LABEL) == "true" and labels.get(_MANAGED) != PLATFORM[_MANAGED]


def read_secret(obj: Object, most: int = MAX_SECRET) -> Stored:
    """Read a Secret, without its value if it has more than `most` bytes."""
    meta, values = obj["metadata"], values_of(obj)
    value = values.get(key_of(str(meta["name"]), values))
    return Stored(
        namespace=str(meta["namespace"]),
        name=str(meta["name"]),
        uid=str(meta["uid"]),
        version=int(meta["resourceVersion"]),
        keys=tuple(sorted(values)),
        mark=b"" if value is None else mark_of(value),
        value=value if value is not None and len(value) <= most else None,
    )


def mark_of(value: bytes) -> bytes:
    """What tells a value from others."""
    return hashlib.sha256(value).digest()


def key_of(name: str, values: Mapping[str, bytes]) -> str:
    """The key of a function's value: the one of the Secret's own name, as OpenFaaS's users write it with kubectl; else
    `value`; else the only one. Empty for several others, or none."""
    only = tuple(values) if len(values) == 1 else ()
    return next((key for key in (name, KEY, *only) if key in values), "")


def value_of(stored: Stored) -> bytes:
    """The value for functions. Raises InvalidInput naming the keys."""
    if stored.value is None:
        keys = ", ".join(stored.keys) or "none"
        raise InvalidInput(
            f"Secret {stored.name} in namespace {stored.namespace} does not say which value functions get: name a key "
            f"{stored.name} or {KEY}, or keep a single one; its keys: {keys}"
        )
    return stored.value


def object_of(namespace: str, name: str, value: bytes) -> Object:
    """The Secret that control makes. The second label tells it from those that users have made, which outlive an
    installation."""
    return secret_object(name, namespace, {KEY: value}, {LABEL: "true", **CREATED})
