"""The programs of the fence (`netfence`): what happens when a socket is bound, connected or used."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rescoldo.isolation.bpf import BpfProgram
from rescoldo.model.settings import EDGE_UID, INSTANCE_UIDS

FIRST_ADDRESS = ipaddress.IPv4Address("127.64.0.0")
_SECOND = 0x2_0000  # from an instance's address to its second one: 127.66.0.0 and on
_NETWORK = ipaddress.IPv4Network("127.64.0.0/14")  # holds both for each of INSTANCE_UIDS
GATEWAYS = ipaddress.IPv4Network("127.68.0.0/16")  # an address for each platform's gateway
STAND_INS = ipaddress.IPv4Network("127.70.0.0/15")  # an address for each of INSTANCE_UIDS
_LOOPBACK = int(ipaddress.IPv4Address("127.0.0.1"))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Endpoints = Sequence[tuple[Address, int]]
Forbidden = Endpoints


@dataclass(frozen=True, slots=True)
class GatewayListener:
    """Where instances reach a platform's gateway: a listener of its own, which no other uid may connect to."""

    address: ipaddress.IPv4Address  # one of GATEWAYS
    port: int  # where it listens
    ports: Sequence[int]  # these, at its address, lead there, too
    elsewhere: Endpoints  # where others reach the gateway: instances are led to the listener instead


# linux/bpf.h
SOCK_ADDR = 18  # BPF_PROG_TYPE_CGROUP_SOCK_ADDR
SOCKOPT = 25  # BPF_PROG_TYPE_CGROUP_SOCKOPT
_GET_CURRENT_UID_GID = 15
_BIND = 64
_SETSOCKOPT = 49
_SK_LOOKUP_TCP = 84
_SK_RELEASE = 86
_BIND4, _BIND6, _CONNECT4, _CONNECT6, _SENDMSG4, _SENDMSG6, OPTION = 8, 9, 10, 11, 14, 15, 22  # attach types

# offsets in struct bpf_sock_addr, what programs are given
_IP4 = 4
_IP6 = 8  # four words
_PORT = 24
_TYPE = 32
_SOCKET = 64
# in struct bpf_sock
_PRIORITY = 20
_LOCAL_IP4 = 24
# in struct bpf_sockopt
_OPTION_SOCKET = 0
_VALUE = 8
_VALUE_END = 16
_LEVEL = 24
_OPTION_NAME = 28
_LENGTH = 32
# struct bpf_sock_tuple.ipv4 on the stack: from and to address, from and to port
# struct sockaddr_in and sockaddr_in6 on the stack, from their ends: they are never there together with the tuple
_SOCKADDR4_SIZE = 16
_SOCKADDR6_SIZE = 28
_TUPLE_SIZE = 12
_TUPLE = -16
_THIS_NETWORK = 0xFFFF_FFFF  # BPF_F_CURRENT_NETNS

_ALREADY_DONE = 0xFFFF_FFFF  # -1 as the length of an option: the kernel itself does nothing
_AS_IT_IS = 0  # as the length of an option: the kernel takes what the caller gave
_MOST_SEEN = 4096  # bytes of an option that a program is shown
# A socket's priority says that it asked for IPV6_V6ONLY: no process may set one above 6 without rights.
_WANTS_V6ONLY = 0x7265_7363

_REFUSE = 0
_ALLOW = 1
_ALLOW_PRIVILEGED_PORT = 3  # of bind: below 1024, too, as no other process can have that address

# registers
_RESULT, _CONTEXT, _UID, _ADDRESS, _PORT_NUMBER, _STACK = 0, 6, 7, 8, 9, 10


def programs(forbidden: Forbidden, gateway: GatewayListener | None = None) -> dict[int, bytes]:
    """The code for each attach type."""
    return {
        _BIND4: _bind(4),
        _BIND6: _bind(6),
        _CONNECT4: _connect(4, forbidden, gateway),
        _CONNECT6: _connect(6, forbidden, gateway),
        _SENDMSG4: _send(4),
        _SENDMSG6: _send(6),
        OPTION: _set_option(),
    }


def _bind(version: int) -> bytes:
    program = BpfProgram()
    program.copy(_CONTEXT, 1)
    _leave_unless_tcp_of_an_instance(program)
    program.jump_if(_PORT_NUMBER, "!=", 0, "own")
    _take_address(program, version, other="allow", unspecified="allow")
    _jump_unless_loopback(program, "allow")
    program.label("own")
    _own_address(program)
    if version == 6:
        program.load_pointer(1, _CONTEXT, _SOCKET)
        program.load(1, 1, _PRIORITY)
        program.jump_if(1, "!=", _WANTS_V6ONLY, "first")
        program.add(_ADDRESS, _SECOND)
        program.label("first")
    _give_address(program, version)
    program.leave(_ALLOW_PRIVILEGED_PORT)
    program.label("allow")
    program.leave(_ALLOW)
    return program.assemble()


def _set_option() -> bytes:
    """Note that an instance's socket asked for IPV6_V6ONLY, instead of doing it."""
    program = BpfProgram()
    program.copy(_CONTEXT, 1)
    program.load(1, _CONTEXT, _LENGTH)
    program.jump_if(1, "==", _ALREADY_DONE, "allow")  # by another fence
    program.jump_if(1, ">", _MOST_SEEN, "large")
    program.load(1, _CONTEXT, _LEVEL)
    program.jump_if(1, "!=", socket.IPPROTO_IPV6, "allow")
    program.load(1, _CONTEXT, _OPTION_NAME)
    program.jump_if(1, "!=", socket.IPV6_V6ONLY, "allow")
    _jump_unless_instance(program)
    program.load_pointer(1, _CONTEXT, _VALUE)
    program.load_pointer(2, _CONTEXT, _VALUE_END)
    program.copy(3, 1)
    program.add_to_pointer(3, 4)
    program.jump_if_beyond(3, 2, "allow")
    program.load(1, 1, 0)
    program.jump_if(1, "==", 0, "allow")
    program.set(1, _WANTS_V6ONLY)
    program.store(_STACK, -4, 1)
    program.load_pointer(1, _CONTEXT, _OPTION_SOCKET)
    program.set(2, socket.SOL_SOCKET)
    program.set(3, socket.SO_PRIORITY)
    program.copy(4, _STACK)
    program.add_to_pointer(4, -4)
    program.set(5, 4)
    program.call(_SETSOCKOPT)
    program.set(1, _ALREADY_DONE)
    program.store(_CONTEXT, _LENGTH, 1)
    program.jump("allow")
    program.label("large")
    program.set(1, _AS_IT_IS)
    program.store(_CONTEXT, _LENGTH, 1)
    program.label("allow")
    program.leave(_ALLOW)
    return program.assemble()


def _send(version: int) -> bytes:
    program = BpfProgram()
    program.copy(_CONTEXT, 1)
    _take_address(program, version, other="allow")
    _guard_gateways(program, instances="allow")
    _guard_stand_ins(program)
    _guard(program, others="allow", edge="allow")
    _end(program)
    return program.assemble()


def _connect(version: int, forbidden: Forbidden, gateway: GatewayListener | None) -> bytes:
    program = BpfProgram()
    program.copy(_CONTEXT, 1)
    _take_address(program, version, other="elsewhere in IPv6")
    _guard_gateways(program, instances="a gateway's")
    _guard_stand_ins(program)
    _guard(program, others="unguarded", edge="the edge's")
    program.label("unguarded")
    _leave_unless_tcp_of_an_instance(program)
    _jump_unless_loopback(program, "elsewhere in IPv4")
    at_loopback = _at_loopback(version, gateway)
    for address, port in at_loopback:
        if address.is_unspecified:  # all of loopback
            program.jump_if(_PORT_NUMBER, "==", port, "own or gateway")
        else:
            _jump_if_ipv4(program, address, port, "own or gateway")
    _prefer_own_server(program, version, "the host's")
    _refuse_ports(program, {port for _, port in forbidden})
    program.jump("allow")
    everywhere = {port for address, port in forbidden if address.is_unspecified}
    program.label("elsewhere in IPv4")
    if gateway is not None:
        for address, port in gateway.elsewhere:
            if address.version == 4:
                _jump_if_ipv4(program, address, port, "gateway")
    _refuse_ports(program, everywhere)
    for address, port in forbidden:
        if address.version == 4:
            _jump_if_ipv4(program, address, port, "refuse")
    program.jump("allow")
    if version == 6:
        program.label("elsewhere in IPv6")
        _leave_unless_tcp_of_an_instance(program)
        if gateway is not None:
            for address, port in gateway.elsewhere:
                if address.version == 6:
                    _jump_if_ipv6(program, address, port, "gateway")
        _refuse_ports(program, everywhere)
        for address, port in forbidden:
            if address.version == 6:
                _jump_if_ipv6(program, address, port, "refuse")
        program.jump("allow")
    program.label("a gateway's")
    _leave_unless_tcp_of_an_instance(program)
    if gateway is not None:
        for port in gateway.ports:
            _jump_if_ipv4(program, gateway.address, port, "gateway")
    program.jump("allow")  # another platform's, whose fence knows it
    if at_loopback:  # the kernel takes no code that nothing jumps to
        program.label("own or gateway")
        _prefer_own_server(program, version, "the gateway's")
    if gateway is not None:
        program.label("gateway")
        _lead_to_gateway(program, version, gateway)
    program.label("the edge's")
    _lead_to_stand_in(program, version)
    _end(program)
    return program.assemble()


def _at_loopback(version: int, gateway: GatewayListener | None) -> Endpoints:
    """Where others reach the gateway at loopback, as _take_address has it: ::1 is 127.0.0.1 to it."""
    if gateway is None:
        return []
    found: list[tuple[Address, int]] = []
    for address, port in gateway.elsewhere:
        if address.is_unspecified or (address.version == 4 and address.is_loopback):
            found.append((address, port))
        elif address.is_loopback and version == 6:
            found.append((ipaddress.IPv4Address(_LOOPBACK), port))
    return found


def _lead_to_gateway(program: BpfProgram, version: int, gateway: GatewayListener) -> None:
    """Connect to the gateway's listener for instances, from the instance's own address: there it is told by it."""
    _take_uid(program)
    _own_address(program)
    _bind_to_address(program, version)
    program.set(_ADDRESS, int(gateway.address))
    _give_address(program, version)
    program.set(1, gateway.port)
    program.swap_to_network(1, 16)
    program.store(_CONTEXT, _PORT, 1)
    program.leave(_ALLOW)


def _lead_to_stand_in(program: BpfProgram, version: int) -> None:
    """Where nobody listens at an instance's port, go to its stand-in, if somebody listens there."""
    program.load(1, _CONTEXT, _TYPE)
    program.jump_if(1, "!=", socket.SOCK_STREAM, "allow")
    program.load(_PORT_NUMBER, _CONTEXT, _PORT)
    program.swap_to_network(_PORT_NUMBER, 16)
    _look_up_listener(program, "the instance does not listen")
    program.jump("allow")
    program.label("the instance does not listen")
    program.add(_ADDRESS, int(STAND_INS.network_address) - int(FIRST_ADDRESS))
    _look_up_listener(program, "allow")
    _give_address(program, version)
    program.jump("allow")


def _bind_to_address(program: BpfProgram, version: int) -> None:
    """Bind the socket to _ADDRESS, unless it is bound already; the kernel chooses the port. _ADDRESS is used up."""
    size, family = (_SOCKADDR4_SIZE, socket.AF_INET) if version == 4 else (_SOCKADDR6_SIZE, socket.AF_INET6)
    program.set(1, 0)
    for offset in range(-size, 0, 4):
        program.store(_STACK, offset, 1)
    program.set(1, family)
    program.store_half(_STACK, -size, 1)
    program.swap_to_network(_ADDRESS, 32)
    if version == 4:
        program.store(_STACK, -size + 4, _ADDRESS)
    else:
        program.set(1, 0xFFFF)
        program.swap_to_network(1, 32)
        program.store(_STACK, -size + 16, 1)
        program.store(_STACK, -size + 20, _ADDRESS)
    program.copy(1, _CONTEXT)
    program.copy(2, _STACK)
    program.add_to_pointer(2, -size)
    program.set(3, size)
    program.call(_BIND)


def _end(program: BpfProgram) -> None:
    program.label("refuse")
    program.leave(_REFUSE)
    program.label("allow")
    program.leave(_ALLOW)


def _take_address(program: BpfProgram, version: int, *, other: str, unspecified: str = "") -> None:
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


def _give_address(program: BpfProgram, version: int) -> None:
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


def _take_uid(program: BpfProgram) -> None:
    program.call(_GET_CURRENT_UID_GID)  # of the initial user namespace, the gid in the high half
    program.copy_low(_UID, _RESULT)


def _jump_unless_instance(program: BpfProgram) -> None:
    _take_uid(program)
    program.jump_if(_UID, "<", INSTANCE_UIDS.start, "allow")
    program.jump_if(_UID, ">=", INSTANCE_UIDS.stop, "allow")


def _leave_unless_tcp_of_an_instance(program: BpfProgram) -> None:
    """Go on with _UID and _PORT_NUMBER for a stream socket of an instance; else jump to "allow"."""
    program.load(1, _CONTEXT, _TYPE)
    program.jump_if(1, "!=", socket.SOCK_STREAM, "allow")
    _jump_unless_instance(program)
    program.load(_PORT_NUMBER, _CONTEXT, _PORT)
    program.swap_to_network(_PORT_NUMBER, 16)


def _own_address(program: BpfProgram) -> None:
    """_ADDRESS = what belongs to _UID, an instance's."""
    program.copy_low(_ADDRESS, _UID)
    program.add(_ADDRESS, (int(FIRST_ADDRESS) - INSTANCE_UIDS.start) & 0xFFFF_FFFF)


def _jump_unless_loopback(program: BpfProgram, label: str) -> None:
    program.copy_low(1, _ADDRESS)
    program.mask(1, 0xFF00_0000)
    program.jump_if(1, "!=", 0x7F00_0000, label)


def _guard_gateways(program: BpfProgram, *, instances: str) -> None:
    """Keep others than instances and root from GATEWAYS; jump to `instances` for these. Goes on for other addresses."""
    program.copy_low(1, _ADDRESS)
    program.mask(1, int(GATEWAYS.netmask))
    program.jump_if(1, "!=", int(GATEWAYS.network_address), "no gateway's")
    _take_uid(program)
    program.jump_if(_UID, "==", 0, "allow")
    program.jump_if(_UID, "<", INSTANCE_UIDS.start, "refuse")
    program.jump_if(_UID, "<", INSTANCE_UIDS.stop, instances)
    program.jump("refuse")
    program.label("no gateway's")


def _guard_stand_ins(program: BpfProgram) -> None:
    """Keep others than root and the edge from STAND_INS. Goes on for other addresses."""
    program.copy_low(1, _ADDRESS)
    program.mask(1, int(STAND_INS.netmask))
    program.jump_if(1, "!=", int(STAND_INS.network_address), "no stand-in's")
    _take_uid(program)
    program.jump_if(_UID, "==", 0, "allow")
    program.jump_if(_UID, "==", EDGE_UID, "allow")
    program.jump("refuse")
    program.label("no stand-in's")


def _guard(program: BpfProgram, *, others: str, edge: str) -> None:
    """Decide about an instance's address; jump to `others` for what is none, to `edge` for the edge."""
    program.copy_low(1, _ADDRESS)
    program.mask(1, int(_NETWORK.netmask))
    program.jump_if(1, "!=", int(_NETWORK.network_address), others)
    _take_uid(program)
    program.jump_if(_UID, "==", 0, "allow")  # the node asks whether a server accepts already
    program.jump_if(_UID, "==", EDGE_UID, edge)
    program.jump_if(_UID, "<", INSTANCE_UIDS.start, "refuse")
    program.jump_if(_UID, ">=", INSTANCE_UIDS.stop, "refuse")
    asked = _PORT_NUMBER
    program.copy_low(asked, _ADDRESS)
    program.mask(asked, ~_SECOND & 0xFFFF_FFFF)
    _own_address(program)
    program.jump_if_registers(asked, "==", _ADDRESS, "allow")
    program.jump("refuse")


def _refuse_ports(program: BpfProgram, ports: Iterable[int]) -> None:
    for port in sorted(ports):
        program.jump_if(_PORT_NUMBER, "==", port, "refuse")


def _jump_if_ipv4(program: BpfProgram, address: Address, port: int, label: str) -> None:
    after = f"not {address}:{port} for {label}"
    program.jump_if(_PORT_NUMBER, "!=", port, after)
    program.jump_if(_ADDRESS, "==", int(address), label)
    program.label(after)


def _jump_if_ipv6(program: BpfProgram, address: Address, port: int, label: str) -> None:
    after = f"not {address}:{port} for {label}"
    program.jump_if(_PORT_NUMBER, "!=", port, after)
    for word in range(4):
        program.load(1, _CONTEXT, _IP6 + 4 * word)
        program.swap_to_network(1, 32)
        program.jump_if(1, "!=", int.from_bytes(address.packed[4 * word : 4 * word + 4]), after)
    program.jump(label)
    program.label(after)


def _prefer_own_server(program: BpfProgram, version: int, other: str) -> None:
    """Leave for the instance's own address, or its second one, if it listens at that port there; else go on to the
    `other` server.

    _UID and _ADDRESS are used up.
    """
    _own_address(program)
    for turn in ("first", "second"):
        without = f"nobody listens at the {turn}: {other}"
        _look_up_listener(program, without)
        _give_address(program, version)
        program.jump("allow")
        program.label(without)
        program.add(_ADDRESS, _SECOND)


def _look_up_listener(program: BpfProgram, otherwise: str) -> None:
    """Go on if somebody listens at exactly _ADDRESS and _PORT_NUMBER, else jump to `otherwise`."""
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
    program.jump_if_null(_RESULT, otherwise)
    found = _UID
    program.load(found, _RESULT, _LOCAL_IP4)
    program.swap_to_network(found, 32)
    program.copy(1, _RESULT)
    program.call(_SK_RELEASE)
    program.jump_if_registers(found, "!=", _ADDRESS, otherwise)  # the host's, at all addresses
