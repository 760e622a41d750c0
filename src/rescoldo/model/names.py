"""The names of functions, namespaces, secrets and routes.

Sources: a name is a DNS label, `^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`, at most 63 characters
(https://docs.openfaas.com/reference/yaml, "Function Name"); a route is /function/NAME.NAMESPACE
(https://docs.openfaas.com/reference/rest-api), and the namespace is the text after the last dot.
"""

from __future__ import annotations

import re
from typing import NewType

from rescoldo.model.errors import InvalidInput

RouteKey = NewType("RouteKey", str)
"""The key of a revision that takes traffic, in the route map and in wakes: a function's id means the current revision,
`name.namespace/REVISION` another one with a share. A call's path cannot name the latter: a name ends at the `/`."""

FunctionId = NewType("FunctionId", RouteKey)
"""`name.namespace`: the id of a function in the access log, in metrics and on the node."""

InstanceId = NewType("InstanceId", str)
"""Unique for the life of the data directory; never reused."""

SlotName = NewType("SlotName", str)

DEFAULT_NAMESPACE = "openfaas-fn"
POOL_DOMAIN = "pool.rescoldo"  # gateways know a namespace's workers by *.NAMESPACE.pool.rescoldo in their certificate
MAX_NAME = 63
MAX_SECRET_NAME = 253
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SECRET_NAME = re.compile(rf"{_NAME.pattern}(\.{_NAME.pattern})*")


def check_name(name: str, what: str = "function") -> str:
    """Return `name`; raise InvalidInput unless it is a DNS label."""
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{what} name {name[:80]!r} is not valid: use 1 to {MAX_NAME} characters a-z, 0-9 and '-', "
            "beginning and ending with a letter or digit"
        )
    return name


def check_secret_name(name: str) -> str:
    """Return `name`; raise InvalidInput unless it is a DNS subdomain, Kubernetes' rule for a secret's name.

    A secret is a file of that name: the rule also excludes hidden files and paths that lead upwards.
    """
    if len(name) > MAX_SECRET_NAME or not _SECRET_NAME.fullmatch(name):
        raise InvalidInput(
            f"secret name {name[:80]!r} is not valid: use 1 to {MAX_SECRET_NAME} characters a-z, 0-9, '-' and '.', "
            "beginning and ending with a letter or digit, also on both sides of a '.'"
        )
    return name


def function_id(name: str, namespace: str = "") -> FunctionId:
    """Return the id of a function; an empty namespace means the default one."""
    return FunctionId(RouteKey(f"{name}.{namespace or DEFAULT_NAMESPACE}"))


def revision_key(function: FunctionId, revision: int) -> RouteKey:
    """Return the route key of a revision that is not the current one."""
    return RouteKey(f"{function}/{revision}")


def function_of(key: RouteKey) -> FunctionId:
    """Return the function of a route key."""
    return FunctionId(RouteKey(key.partition("/")[0]))


def split_id(function: FunctionId) -> tuple[str, str]:
    """Return (name, namespace) of an id."""
    name, _, namespace = function.rpartition(".")
    return name, namespace


def parse_reference(text: str) -> tuple[str, str]:
    """Return (name, namespace) of `NAME` or `NAME.NS`; raise InvalidInput if either is not valid."""
    name, _, namespace = text.rpartition(".") if "." in text else (text, "", DEFAULT_NAMESPACE)
    return check_name(name), check_name(namespace, "namespace")
