"""Makes TCP ports private to an instance, without a network namespace.

Every instance has a loopback address of its own (`address_of`). Small programs at the root of the cgroup tree (cgroup
v2, no controller needed; `isolation/fencing/`) act when a socket is bound or connected:

* an instance's TCP socket that is bound to a port, at any address, is bound to the instance's own address: any number
  of instances may use one port;
* only the instance, the edge and root can reach that address;
* if nothing listens at an instance's port, the edge reaches the instance's stand-in (`stand_in_of`), provided that the
  stand-in listens at that port: no request is refused because a server has just ended;
* an instance that connects to loopback reaches its own server, if it has one at that port, otherwise the host's;
* the platform's own ports (`forbidden`) are closed to instances;
* an instance that connects to the platform's gateway reaches a listener reserved for instances (`GatewayListener`),
  and comes from its own address: so the gateway counts instances apart from other clients, and one by one.

The programs recognise instances by their uid, so nothing changes for other processes. The fence needs Linux 5.15, a
cgroup2 mount and CAP_SYS_ADMIN (or CAP_BPF and CAP_NET_ADMIN). A listener of the host at 0.0.0.0 or :: takes its port
from instances, too. A port that the kernel chooses (0) is private if the program asks for it at a loopback address;
one asked for at all addresses is as open as the host's own. Only TCP ports are private.

An IPv6 socket is bound to the IPv4-mapped form of the address. A socket with IPV6_V6ONLY, which asyncio sets for the
second of its two sockets, does not get that option but a second address, because its IPv4 sister may hold the first.
From outside, a server with only such a socket cannot be reached. (Where the sysctl net.ipv6.bindv6only is 1, IPv6
sockets that keep to it are refused with EINVAL.)
"""

from __future__ import annotations

import errno
import functools
import hashlib
import ipaddress
import os
import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rescoldo.isolation import bpf
from rescoldo.isolation.fencing.addresses import (
    FIRST_ADDRESS,
    GATEWAYS,
    STAND_INS,
    Address,
    Endpoints,
    GatewayListener,
)
from rescoldo.isolation.fencing.kernel import OPTION, SOCK_ADDR, SOCKOPT
from rescoldo.isolation.fencing.programs import programs
from rescoldo.model.ids import INSTANCE_UIDS

_NAME = "rescoldo"
_MOST_ADDRESSES = 256  # of this machine, to search for a gateway that listens at all addresses


def address_of(uid: int) -> str:
    """Return the loopback address of the instance with this uid. Raises ValueError for another uid."""
    return str(FIRST_ADDRESS + INSTANCE_UIDS.index(uid))


def stand_in_of(uid: int) -> str:
    """Return the loopback address at which the node takes requests in place of the instance with this uid; only root
    and the edge can connect there. Raises ValueError for another uid."""
    return str(STAND_INS[INSTANCE_UIDS.index(uid)])


def gateway_address(platform: str) -> ipaddress.IPv4Address:
    """Return the loopback address at which the instances of `platform` (its runtime directory) reach its gateway. Two
    platforms of a machine share one with a probability of 1 in 65,000."""
    digest = hashlib.sha256(os.fsencode(platform)).digest()
    return GATEWAYS[1 + int.from_bytes(digest[:8]) % (GATEWAYS.num_addresses - 2)]


def endpoints(host: str, port: int) -> Endpoints:
    """Return the addresses of a listener at `host`; for 0.0.0.0 and ::, also each address that this machine has now.
    Raises OSError if the host has no address."""
    found = dict.fromkeys(_resolved([(host, port)]))
    if any(address.is_unspecified for address, _ in found):
        found.update(dict.fromkeys((address, port) for address in _own_addresses()))
    return list(found)[:_MOST_ADDRESSES]


def _own_addresses() -> Iterator[Address]:
    """Yield the addresses of this machine in this network namespace, without loopback."""
    leaf = ipaddress.IPv4Address(0)
    for line in Path("/proc/net/fib_trie").read_text().splitlines():
        words = line.split()
        if words[0] == "|--":
            leaf = ipaddress.IPv4Address(words[1])
        elif words[:3] == ["/32", "host", "LOCAL"] and not leaf.is_loopback:
            yield leaf
    ipv6 = Path("/proc/net/if_inet6")
    for line in ipv6.read_text().splitlines() if ipv6.exists() else ():
        address = ipaddress.IPv6Address(int(line.split()[0], 16))
        if not address.is_loopback:
            yield address


@functools.cache
def available() -> bool:
    """Whether this process may put up a fence here. Tries it for a moment."""
    try:
        Fence.open(()).close()
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Fence:
    """The attached programs; they stay while any process holds these descriptors.

    Another process may inherit or receive the descriptors and hold them with `Fence(descriptors)`. Two fences at once
    do no harm.
    """

    descriptors: tuple[int, ...]

    @classmethod
    def open(cls, forbidden: Sequence[tuple[str, int]], gateway: GatewayListener | None = None) -> Fence:
        """Put up the fence on the whole machine, and lead instances to their `gateway`.

        `forbidden` lists (host, port) of TCP listeners that instances may not reach: at that address and at loopback;
        at every address, including other machines, if the host is 0.0.0.0 or ::. Descriptors are close-on-exec. Raises
        OSError, also for a host without an address.
        """
        code = programs(_resolved(forbidden), gateway)
        cgroups = os.open(cgroup2_root(Path("/proc/self/mountinfo").read_text()), os.O_RDONLY | os.O_DIRECTORY)
        links: list[int] = []
        try:
            for attach_type, instructions in code.items():
                kind = SOCKOPT if attach_type == OPTION else SOCK_ADDR
                program = bpf.load(kind, attach_type, _NAME, instructions)
                try:
                    links.append(bpf.attach(program, cgroups, attach_type))
                finally:
                    os.close(program)
        except OSError:
            cls(tuple(links)).close()
            raise
        finally:
            os.close(cgroups)
        return cls(tuple(links))

    def close(self) -> None:
        """Close the descriptors; the fence is gone once no process holds any."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def cgroup2_root(mountinfo: str) -> str:
    """Return the mount point of the cgroup2 tree in /proc/self/mountinfo. Raises OSError if it is not mounted."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        if after.split()[0] == "cgroup2" and root == "/":
            return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point)
    raise OSError(errno.ENOENT, "no cgroup2 file system is mounted; mount -t cgroup2 none DIRECTORY makes one")


def _resolved(hosts: Iterable[tuple[str, int]]) -> list[tuple[Address, int]]:
    found: dict[tuple[Address, int], None] = {}
    for host, port in hosts:
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise OSError(errno.EADDRNOTAVAIL, f"{host!r} has no address: {error}") from error
        for *_, address in addresses:
            found[ipaddress.ip_address(str(address[0]).partition("%")[0]), port] = None
    return list(found)
