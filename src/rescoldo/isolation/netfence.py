"""TCP ports that belong to one instance alone, without a network namespace.

Every instance has a loopback address of its own (`address_of`). Small programs at the root of the cgroup
tree (cgroup v2, no controller needed) act when a socket is bound or connected:

* an instance's TCP socket that is bound to a port, at whatever address, is bound to the instance's own
  address: any number of instances may use one port;
* that address can be reached by the instance, the edge and root, by nobody else on the machine;
* an instance that connects to loopback reaches its own server, if it has one at that port, else the host's;
* the platform's own ports (`forbidden`) are closed to instances.

Processes are told apart by their uid, so nothing changes for those that are not instances. Needs Linux 5.12,
a cgroup2 mount and CAP_SYS_ADMIN (or CAP_BPF and CAP_NET_ADMIN). An IPv6 socket is bound to the IPv4-mapped
form of the address, which one with IPV6_V6ONLY refuses with EINVAL. A listener of the host at 0.0.0.0 or ::
takes its port from instances, too. A port that the kernel chooses (0) is private when the program asks for it
at a loopback address; one asked for at all addresses is as open as the host's own. Only TCP ports are private.
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import os
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rescoldo.isolation import bpf
from rescoldo.isolation.bpf import Program
from rescoldo.model.settings import EDGE_UID, INSTANCE_UIDS

_FIRST_ADDRESS = ipaddress.IPv4Address("127.64.0.0")
_NETWORK = ipaddress.IPv4Network("127.64.0.0/15")  # holds an address for each of INSTANCE_UIDS
_LOOPBACK = int(ipaddress.IPv4Address("127.0.0.1"))
_NAME = "rescoldo"

# linux/bpf.h
_SOCK_ADDR = 18  # BPF_PROG_TYPE_CGROUP_SOCK_ADDR
_GET_CURRENT_UID_GID = 15
_SK_LOOKUP_TCP = 84
_SK_RELEASE = 86
_BIND4, _BIND6, _CONNECT4, _CONNECT6, _SENDMSG4, _SENDMSG6 = 8, 9, 10, 11, 14, 15  # attach types

# offsets in struct bpf_sock_addr, what programs are given
_IP4 = 4
_IP6 = 8  # four words
_PORT = 24
_TYPE = 32
# offset in struct bpf_sock, what a lookup finds
_LOCAL_IP4 = 24
# struct bpf_sock_tuple.ipv4 on the stack: from and to address, from and to port
_TUPLE_SIZE = 12
_TUPLE = -16
_THIS_NETWORK = 0xFFFF_FFFF  # BPF_F_CURRENT_NETNS

_REFUSE = 0
_ALLOW = 1
_ALLOW_PRIVILEGED_PORT = 3  # of bind: below 1024, too, as no other process can have that address

# registers
_RESULT, _CONTEXT, _UID, _ADDRESS, _PORT_NUMBER, _STACK = 0, 6, 7, 8, 9, 10

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def address_of(uid: int) -> str:
    """The loopback address that belongs to the instance that runs as `uid`; ValueError for another uid."""
    return str(_FIRST_ADDRESS + INSTANCE_UIDS.index(uid))


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
    def open(cls, forbidden: Sequence[tuple[str, int]]) -> Fence:
        """Put up the fence on the whole machine.

        `forbidden` are (host, port) of TCP listeners that instances may not reach: at that address and at
        loopback; at every address, also of other machines, when the host is 0.0.0.0 or ::. Descriptors are
        close-on-exec. Raises OSError, also for a host that has no address.
        """
        code = programs(_resolved(forbidden))
        cgroups = os.open(cgroup2_root(Path("/proc/self/mountinfo").read_text()), os.O_RDONLY | os.O_DIRECTORY)
        links: list[int] = []
        try:
            for attach_type, instructions in code.items():
                program = bpf.load(_SOCK_ADDR, attach_type, _NAME, instructions)
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


# -- the programs

Forbidden = Sequence[tuple[Address, int]]


def programs(forbidden: Forbidden) -> dict[int, bytes]:
    """The code for each attach type."""
    return {
        _BIND4: _bind(4),
        _BIND6: _bind(6),
        _CONNECT4: _connect(4, forbidden),
        _CONNECT6: _connect(6, forbidden),
        _SENDMSG4: _send(4),
        _SENDMSG6: _send(6),
    }


def _bind(version: int) -> bytes:
    program = Program()
    program.copy(_CONTEXT, 1)
    _leave_unless_tcp_of_an_instance(program)
    program.jump_if(_PORT_NUMBER, "!=", 0, "own")
    _take_address(program, version, other="allow", unspecified="allow")
    _jump_unless_loopback(program, "allow")
    program.label("own")
    _own_address(program)
    _give_address(program, version)
    program.leave(_ALLOW_PRIVILEGED_PORT)
    program.label("allow")
    program.leave(_ALLOW)
    return program.assemble()


def _send(version: int) -> bytes:
    program = Program()
    program.copy(_CONTEXT, 1)
    _take_address(program, version, other="allow")
    _guard(program, others="allow")
    _end(program)
    return program.assemble()


def _connect(version: int, forbidden: Forbidden) -> bytes:
    program = Program()
    program.copy(_CONTEXT, 1)
    _take_address(program, version, other="elsewhere in IPv6")
    _guard(program, others="unguarded")
    program.label("unguarded")
    _leave_unless_tcp_of_an_instance(program)
    _jump_unless_loopback(program, "elsewhere in IPv4")
    _prefer_own_server(program, version)
    _refuse_ports(program, {port for _, port in forbidden})
    program.jump("allow")
    everywhere = {port for address, port in forbidden if address.is_unspecified}
    program.label("elsewhere in IPv4")
    _refuse_ports(program, everywhere)
    for address, port in forbidden:
        if address.version == 4:
            _refuse_ipv4(program, address, port)
    program.jump("allow")
    if version == 6:
        program.label("elsewhere in IPv6")
        _leave_unless_tcp_of_an_instance(program)
        _refuse_ports(program, everywhere)
        for address, port in forbidden:
            if address.version == 6:
                _refuse_ipv6(program, address, port)
        program.jump("allow")
    _end(program)
    return program.assemble()


def _end(program: Program) -> None:
    program.label("refuse")
    program.leave(_REFUSE)
    program.label("allow")
    program.leave(_ALLOW)


def _take_address(program: Program, version: int, *, other: str, unspecified: str = "") -> None:
    """_ADDRESS = the address as an IPv4 number; jump to `other` if it is IPv6 beyond loopback and mapped ones.

    0.0.0.0 and ::, to which one may connect as to loopback, count as 127.0.0.1 where no label `unspecified`
    is given.
    """
    if version == 4:
        program.load(_ADDRESS, _CONTEXT, _IP4)
        program.swap_to_network(_ADDRESS, 32)
    else:
        for word in (0, 1):
            program.load(1, _CONTEXT, _IP6 + 4 * word)
            program.jump_if(1, "!=", 0, other)
        program.load(1, _CONTEXT, _IP6 + 8)
        program.swap_to_network(1, 32)
        program.load(_ADDRESS, _CONTEXT, _IP6 + 12)
        program.swap_to_network(_ADDRESS, 32)
        program.jump_if(1, "==", 0xFFFF, "ipv4")
        program.jump_if(1, "!=", 0, other)
        program.jump_if(_ADDRESS, ">", 1, other)  # neither :: nor ::1
        program.jump_if(_ADDRESS, "==", 0, "ipv4")
        program.set(_ADDRESS, _LOOPBACK)
        program.label("ipv4")
    if unspecified:
        program.jump_if(_ADDRESS, "==", 0, unspecified)
    else:
        program.jump_if(_ADDRESS, "!=", 0, "specified")
        program.set(_ADDRESS, _LOOPBACK)
        program.label("specified")


def _give_address(program: Program, version: int) -> None:
    """Let the socket use _ADDRESS instead; for IPv6 in its mapped form."""
    program.swap_to_network(_ADDRESS, 32)
    if version == 4:
        program.store(_CONTEXT, _IP4, _ADDRESS)
        return
    program.set(1, 0)
    program.store(_CONTEXT, _IP6, 1)
    program.store(_CONTEXT, _IP6 + 4, 1)
    program.set(1, 0xFFFF)
    program.swap_to_network(1, 32)
    program.store(_CONTEXT, _IP6 + 8, 1)
    program.store(_CONTEXT, _IP6 + 12, _ADDRESS)


def _take_uid(program: Program) -> None:
    program.call(_GET_CURRENT_UID_GID)  # of the initial user namespace, the gid in the high half
    program.copy_low(_UID, _RESULT)


def _leave_unless_tcp_of_an_instance(program: Program) -> None:
    """Go on with _UID and _PORT_NUMBER for a stream socket of an instance; else jump to "allow"."""
    program.load(1, _CONTEXT, _TYPE)
    program.jump_if(1, "!=", socket.SOCK_STREAM, "allow")
    _take_uid(program)
    program.jump_if(_UID, "<", INSTANCE_UIDS.start, "allow")
    program.jump_if(_UID, ">=", INSTANCE_UIDS.stop, "allow")
    program.load(_PORT_NUMBER, _CONTEXT, _PORT)
    program.swap_to_network(_PORT_NUMBER, 16)


def _own_address(program: Program) -> None:
    """_ADDRESS = what belongs to _UID, an instance's."""
    program.copy_low(_ADDRESS, _UID)
    program.add(_ADDRESS, (int(_FIRST_ADDRESS) - INSTANCE_UIDS.start) & 0xFFFF_FFFF)


def _jump_unless_loopback(program: Program, label: str) -> None:
    program.copy_low(1, _ADDRESS)
    program.mask(1, 0xFF00_0000)
    program.jump_if(1, "!=", 0x7F00_0000, label)


def _guard(program: Program, *, others: str) -> None:
    """Decide about an instance's address; jump to `others` for what is none."""
    program.copy_low(1, _ADDRESS)
    program.mask(1, int(_NETWORK.netmask))
    program.jump_if(1, "!=", int(_NETWORK.network_address), others)
    _take_uid(program)
    for uid in (0, EDGE_UID):  # root: the node asks whether a server accepts already
        program.jump_if(_UID, "==", uid, "allow")
    program.jump_if(_UID, "<", INSTANCE_UIDS.start, "refuse")
    program.jump_if(_UID, ">=", INSTANCE_UIDS.stop, "refuse")
    asked = _PORT_NUMBER
    program.copy_low(asked, _ADDRESS)
    _own_address(program)
    program.jump_if_registers(asked, "==", _ADDRESS, "allow")
    program.jump("refuse")


def _refuse_ports(program: Program, ports: Iterable[int]) -> None:
    for port in sorted(ports):
        program.jump_if(_PORT_NUMBER, "==", port, "refuse")


def _refuse_ipv4(program: Program, address: Address, port: int) -> None:
    after = f"not {address}:{port}"
    program.jump_if(_PORT_NUMBER, "!=", port, after)
    program.jump_if(_ADDRESS, "==", int(address), "refuse")
    program.label(after)


def _refuse_ipv6(program: Program, address: Address, port: int) -> None:
    after = f"not {address}:{port}"
    program.jump_if(_PORT_NUMBER, "!=", port, after)
    for word in range(4):
        program.load(1, _CONTEXT, _IP6 + 4 * word)
        program.swap_to_network(1, 32)
        program.jump_if(1, "!=", int.from_bytes(address.packed[4 * word : 4 * word + 4]), after)
    program.jump("refuse")
    program.label(after)


def _prefer_own_server(program: Program, version: int) -> None:
    """Leave for the instance's own address if it listens at that port there; _UID and _ADDRESS are used up."""
    _own_address(program)
    program.set(1, 0)
    program.store(_STACK, _TUPLE, 1)
    program.store_half(_STACK, _TUPLE + 8, 1)
    program.copy_low(1, _ADDRESS)
    program.swap_to_network(1, 32)
    program.store(_STACK, _TUPLE + 4, 1)
    program.copy_low(1, _PORT_NUMBER)
    program.swap_to_network(1, 16)
    program.store_half(_STACK, _TUPLE + 10, 1)
    program.copy(1, _CONTEXT)
    program.copy(2, _STACK)
    program.add_to_pointer(2, _TUPLE)
    program.set(3, _TUPLE_SIZE)
    program.set(4, _THIS_NETWORK)
    program.set(5, 0)
    program.call(_SK_LOOKUP_TCP)
    program.jump_if_null(_RESULT, "nobody listens")
    found = _UID
    program.load(found, _RESULT, _LOCAL_IP4)
    program.swap_to_network(found, 32)
    program.copy(1, _RESULT)
    program.call(_SK_RELEASE)
    program.jump_if_registers(found, "!=", _ADDRESS, "nobody listens")  # but the host, at all addresses
    _give_address(program, version)
    program.jump("allow")
    program.label("nobody listens")
