"""TCP ports that belong to one instance alone, without a network namespace.

Every instance has a loopback address of its own (`address_of`). Small programs at the root of the cgroup
tree (cgroup v2, no controller needed; `isolation/fencing/`) act when a socket is bound or connected:

* an instance's TCP socket that is bound to a port, at whatever address, is bound to the instance's own
  address: any number of instances may use one port;
* that address can be reached by the instance, the edge and root, by nobody else on the machine;
* where nobody listens at an instance's port, the edge reaches the instance's stand-in (`stand_in_of`), if somebody
  listens there at that port: no request is refused because a server has just ended;
* an instance that connects to loopback reaches its own server, if it has one at that port, else the host's;
* the platform's own ports (`forbidden`) are closed to instances;
* an instance that connects to the platform's gateway reaches a listener that instances alone may use
  (`GatewayListener`), and comes from its own address:
  so the gateway counts instances apart from other clients, and one by one.

Processes are told apart by their uid, so nothing changes for those that are not instances. Needs Linux 5.15,
a cgroup2 mount and CAP_SYS_ADMIN (or CAP_BPF and CAP_NET_ADMIN). A listener of the host at 0.0.0.0 or ::
takes its port from instances, too. A port that the kernel chooses (0) is private when the program asks for it
at a loopback address; one asked for at all addresses is as open as the host's own. Only TCP ports are private.

An IPv6 socket is bound to the IPv4-mapped form of the address. One that asked for IPV6_V6ONLY, as asyncio does
for the second of its two sockets, does not get that option but a second address, as the first may be taken by
its IPv4 sister; from outside such a server alone cannot be reached. (Where the sysctl net.ipv6.bindv6only is 1,
IPv6 sockets that keep to it are refused with EINVAL.)
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
from rescoldo.model.settings import INSTANCE_UIDS

_NAME = "rescoldo"
_MOST_ADDRESSES = 256  # of this machine, at which a gateway at all addresses is looked for


def address_of(uid: int) -> str:
    """The loopback address that belongs to the instance that runs as `uid`; ValueError for another uid."""
    return str(FIRST_ADDRESS + INSTANCE_UIDS.index(uid))


def stand_in_of(uid: int) -> str:
    """The loopback address at which the node of the instance that runs as `uid` takes requests in its place; only root
    and the edge connect there. ValueError for another uid."""
    return str(STAND_INS[INSTANCE_UIDS.index(uid)])


def gateway_address(platform: str) -> ipaddress.IPv4Address:
    """The loopback address at which the instances of `platform` (its runtime directory) reach its gateway: another one
    for each platform of a machine, but for one in 65,000."""
    digest = hashlib.sha256(os.fsencode(platform)).digest()
    return GATEWAYS[1 + int.from_bytes(digest[:8]) % (GATEWAYS.num_addresses - 2)]


def endpoints(host: str, port: int) -> Endpoints:
    """Where a listener at `host` is reached: for 0.0.0.0 and ::, besides those, at each address that this machine has
    now. Raises OSError when the host has no address."""
    found = dict.fromkeys(_resolved([(host, port)]))
    if any(address.is_unspecified for address, _ in found):
        found.update(dict.fromkeys((address, port) for address in _own_addresses()))
    return list(found)[:_MOST_ADDRESSES]


def _own_addresses() -> Iterator[Address]:
    """Addresses of this machine in this network namespace, loopback's left out."""
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
    """Whether this process may put up a fence here: tried by doing it, for a moment."""
    try:
        Fence.open(()).close()
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Fence:
    """The programs at work, as long as somebody holds these descriptors.

    They may be inherited by, or sent to, another process, which holds them with `Fence(descriptors)`. Two
    fences at once do no harm.
    """

    descriptors: tuple[int, ...]

    @classmethod
    def open(cls, forbidden: Sequence[tuple[str, int]], gateway: GatewayListener | None = None) -> Fence:
        """Put up the fence on the whole machine, and lead instances to their `gateway`.

        `forbidden` are (host, port) of TCP listeners that instances may not reach: at that address and at
        loopback; at every address, also of other machines, when the host is 0.0.0.0 or ::. Descriptors are
        close-on-exec. Raises OSError, also for a host that has no address.
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
        """Let go of it; when nobody else holds it, it is gone."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def cgroup2_root(mountinfo: str) -> str:
    """Where the cgroup2 tree is mounted, by /proc/self/mountinfo; OSError when it is not."""
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
