"""Redirects connections to the gateway, a stand-in or the instance's own server."""

from __future__ import annotations

import socket

from rescoldo.isolation.bpf import BpfProgram
from rescoldo.isolation.fencing.addresses import FIRST_ADDRESS, SECOND, STAND_INS, GatewayListener
from rescoldo.isolation.fencing.kernel import (
    ADDRESS,
    ALLOW,
    BIND,
    CONTEXT,
    LOCAL_IP4,
    PORT,
    PORT_NUMBER,
    RESULT,
    SK_LOOKUP_TCP,
    SK_RELEASE,
    STACK,
    TYPE,
    UID,
)
from rescoldo.isolation.fencing.steps import give_address, own_address, take_uid

# On the stack, from its end: either a struct sockaddr_in or sockaddr_in6, or the tuple; never both.
_SOCKADDR4_SIZE = 16
_SOCKADDR6_SIZE = 28
_TUPLE_SIZE = 12  # struct bpf_sock_tuple.ipv4: source and destination address, source and destination port
_TUPLE = -16
_THIS_NETWORK = 0xFFFF_FFFF  # BPF_F_CURRENT_NETNS


def lead_to_gateway(program: BpfProgram, version: int, gateway: GatewayListener) -> None:
    """Connect to the gateway's listener for instances, from the instance's own address, which identifies it there."""
    take_uid(program)
    own_address(program)
    _bind_to_address(program, version)
    program.set(ADDRESS, int(gateway.address))
    give_address(program, version)
    program.set(1, gateway.port)
    program.swap_to_network(1, 16)
    program.store(CONTEXT, PORT, 1)
    program.leave(ALLOW)


def lead_to_stand_in(program: BpfProgram, version: int) -> None:
    """Redirect to the instance's stand-in if nothing listens at the instance's port but something does at the
    stand-in's."""
    program.load(1, CONTEXT, TYPE)
    program.jump_if(1, "!=", socket.SOCK_STREAM, "allow")
    program.load(PORT_NUMBER, CONTEXT, PORT)
    program.swap_to_network(PORT_NUMBER, 16)
    _look_up_listener(program, "the instance does not listen")
    program.jump("allow")
    program.label("the instance does not listen")
    program.add(ADDRESS, int(STAND_INS.network_address) - int(FIRST_ADDRESS))
    _look_up_listener(program, "allow")
    give_address(program, version)
    program.jump("allow")


def prefer_own_server(program: BpfProgram, version: int, other: str) -> None:
    """Connect to the instance's own server if one listens at that port at its first or second address; otherwise fall
    through, to the `other` server.

    Overwrites UID and ADDRESS.
    """
    own_address(program)
    for turn in ("first", "second"):
        without = f"nobody listens at the {turn}: {other}"
        _look_up_listener(program, without)
        give_address(program, version)
        program.jump("allow")
        program.label(without)
        program.add(ADDRESS, SECOND)


def _look_up_listener(program: BpfProgram, otherwise: str) -> None:
    """Fall through if something listens at exactly ADDRESS and PORT_NUMBER; otherwise jump to `otherwise`."""
    program.set(1, 0)
    program.store(STACK, _TUPLE, 1)
    program.store_half(STACK, _TUPLE + 8, 1)
    program.copy_low(1, ADDRESS)
    program.swap_to_network(1, 32)
    program.store(STACK, _TUPLE + 4, 1)
    program.copy_low(1, PORT_NUMBER)
    program.swap_to_network(1, 16)
    program.store_half(STACK, _TUPLE + 10, 1)
    program.copy(1, CONTEXT)
    program.copy(2, STACK)
    program.add_to_pointer(2, _TUPLE)
    program.set(3, _TUPLE_SIZE)
    program.set(4, _THIS_NETWORK)
    program.set(5, 0)
    program.call(SK_LOOKUP_TCP)
    program.jump_if_null(RESULT, otherwise)
    found = UID
    program.load(found, RESULT, LOCAL_IP4)
    program.swap_to_network(found, 32)
    program.copy(1, RESULT)
    program.call(SK_RELEASE)
    program.jump_if_registers(found, "!=", ADDRESS, otherwise)  # the host's listener at all addresses


def _bind_to_address(program: BpfProgram, version: int) -> None:
    """Bind the socket to ADDRESS unless it is bound; the kernel chooses the port. Overwrites ADDRESS."""
    size, family = (_SOCKADDR4_SIZE, socket.AF_INET) if version == 4 else (_SOCKADDR6_SIZE, socket.AF_INET6)
    program.set(1, 0)
    for offset in range(-size, 0, 4):
        program.store(STACK, offset, 1)
    program.set(1, family)
    program.store_half(STACK, -size, 1)
    program.swap_to_network(ADDRESS, 32)
    if version == 4:
        program.store(STACK, -size + 4, ADDRESS)
    else:
        program.set(1, 0xFFFF)
        program.swap_to_network(1, 32)
        program.store(STACK, -size + 16, 1)
        program.store(STACK, -size + 20, ADDRESS)
    program.copy(1, CONTEXT)
    program.copy(2, STACK)
    program.add_to_pointer(2, -size)
    program.set(3, size)
    program.call(BIND)
