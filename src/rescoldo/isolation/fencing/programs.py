"""The fence's programs, one for each hook of the kernel: bind, connect, send, setsockopt."""

from __future__ import annotations

from rescoldo.isolation.fencing.addresses import Endpoints, GatewayListener
from rescoldo.isolation.fencing.bind import at_bind
from rescoldo.isolation.fencing.connect import at_connect
from rescoldo.isolation.fencing.guards import at_send
from rescoldo.isolation.fencing.kernel import BIND4, BIND6, CONNECT4, CONNECT6, OPTION, SENDMSG4, SENDMSG6
from rescoldo.isolation.fencing.options import at_set_option


def programs(forbidden: Endpoints, gateway: GatewayListener | None = None) -> dict[int, bytes]:
    """Return the code for each attach type. Instances may not connect to `forbidden` and are led to `gateway`."""
    return {
        BIND4: at_bind(4),
        BIND6: at_bind(6),
        CONNECT4: at_connect(4, forbidden, gateway),
        CONNECT6: at_connect(6, forbidden, gateway),
        SENDMSG4: at_send(4),
        SENDMSG6: at_send(6),
        OPTION: at_set_option(),
    }
