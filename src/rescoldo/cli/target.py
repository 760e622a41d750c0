"""Resolves the function and the gateway that a verb works on."""

from __future__ import annotations

from rescoldo.cli.flags import GatewayFlags
from rescoldo.cli.gateway import Gateway, choose_gateway
from rescoldo.cli.project import optional_gateway
from rescoldo.model.errors import NotFound
from rescoldo.model.names import parse_reference


def reference(text: str, namespace: str) -> tuple[str, str]:
    """Return (name, namespace) for NAME or NAME.NS; --namespace applies to a plain NAME."""
    name, own = parse_reference(text)
    return name, (namespace if namespace and "." not in text else own)


def not_deployed(name: str, namespace: str) -> NotFound:
    """Return the error for a function that the gateway does not know, whose 404 may have no text."""
    return NotFound(f"function {name}.{namespace} is not deployed; see the names with: rescoldo list")


def open_gateway(connection: GatewayFlags) -> Gateway:
    """Connect to the gateway of flags, environment or stack file."""
    url = choose_gateway(connection.gateway, optional_gateway(connection.yaml_file, connection.gateway))
    return Gateway(url, tls_no_verify=connection.tls_no_verify, token=connection.token)
