"""The loopback addresses of the fence (`isolation/netfence.py`), and where a platform's gateway is."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

FIRST_ADDRESS = ipaddress.IPv4Address("127.64.0.0")
SECOND = 0x2_0000  # from an instance's address to its second one: 127.66.0.0 and on
INSTANCES = ipaddress.IPv4Network("127.64.0.0/14")  # holds both addresses of each of INSTANCE_UIDS
GATEWAYS = ipaddress.IPv4Network("127.68.0.0/16")  # an address for each platform's gateway
STAND_INS = ipaddress.IPv4Network("127.70.0.0/15")  # an address for each of INSTANCE_UIDS
LOOPBACK = int(ipaddress.IPv4Address("127.0.0.1"))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Endpoints = Sequence[tuple[Address, int]]  # address and port


@dataclass(frozen=True, slots=True)
class GatewayListener:
    """Where instances reach a platform's gateway: a listener of its own, which no other uid may connect to."""

    address: ipaddress.IPv4Address  # one of GATEWAYS
    port: int  # where it listens
    ports: Sequence[int]  # these, at its address, lead there, too
    elsewhere: Endpoints  # where others reach the gateway: instances are led to the listener instead
