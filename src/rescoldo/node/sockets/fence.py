"""The fence around the TCP ports of a platform's instances, and its gate: the gateway's listener for instances."""

from __future__ import annotations

import logging
import socket
from ipaddress import IPv4Address

from rescoldo.isolation.fencing.addresses import GatewayListener
from rescoldo.isolation.level import level
from rescoldo.isolation.netfence import Fence, endpoints, gateway_address
from rescoldo.model.settings import Settings
from rescoldo.node.sockets.gateway import PORT

# environment variable: the supervisor holds a fence with a gate, which outlives its children
FENCED = "RESCOLDO_FENCED"

_LOG = logging.getLogger(__name__)


def put_up(settings: Settings, gate: socket.socket | None = None) -> Fence | None:
    """Give each instance private TCP ports and block its way to the metrics. Connections to the gateway go through
    `gate`, a socket bound to the platform's `gate_address`. Return None, with a warning, where a fence is not
    possible."""
    if level() != "full":
        return None
    try:
        return Fence.open([_parts(settings.metrics)], _gateway(settings, gate) if gate is not None else None)
    except OSError as error:
        _LOG.warning("TCP ports of programs are not private here: %s", error)
        return None


def gate_address(settings: Settings) -> IPv4Address:
    """The address at which the edge listens for instances; no other uid may connect there."""
    return gateway_address(settings.run)


def _gateway(settings: Settings, gate: socket.socket) -> GatewayListener:
    host, port = _parts(settings.gateway)
    return GatewayListener(gate_address(settings), gate.getsockname()[1], sorted({PORT, port}), endpoints(host, port))


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
