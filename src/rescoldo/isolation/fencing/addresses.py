"""The loopback addresses of the fence (`isolation/netfence.py`), and the location of a platform's gateway."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

FIRST_ADDRESS = ipaddress.IPv4Address("127.64.0.0")
SECOND = 0x2_0000  # distance from an instance's address to its second one: 127.66.0.0 and on
INSTANCES = ipaddress.IPv4Network("127.64.0.0/14")  # contains both addresses of each of INSTANCE_UIDS
GATEWAYS = ipaddress.IPv4Network("127.68.0.0/16")  # one address for each platform's gateway
STAND_INS = ipaddress.IPv4Network("127.70.0.0/15")  # one address for each of INSTANCE_UIDS
LOOPBACK = int(ipaddress.IPv4Address("127.0.0.1"))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Endpoints = Sequence[tuple[Address, int]]  # address and port


@dataclass(frozen=True, slots=True)
class GatewayListener:
    """A gateway's own listener for instances; no other uid may connect to it."""

    address: ipaddress.IPv4Address  # one of GATEWAYS
    port: int  # its own port
    ports: Sequence[int]  # these ports at its address lead there, too
    elsewhere: Endpoints  # the gateway's listeners for other clients; instances are led to this one instead
