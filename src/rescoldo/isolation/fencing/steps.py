"""Steps shared by the fence's programs."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from rescoldo.isolation.bpf import BpfProgram
from rescoldo.isolation.fencing.addresses import FIRST_ADDRESS, LOOPBACK, Address
from rescoldo.isolation.fencing.kernel import (
    ADDRESS,
    ALLOW,
    CONTEXT,
    GET_CURRENT_UID_GID,
    IP4,
    IP6,
    PORT,
    PORT_NUMBER,
    REFUSE,
    RESULT,
    TYPE,
    UID,
)
from rescoldo.model.ids import INSTANCE_UIDS


def take_address(program: BpfProgram, version: int, *, other: str, unspecified: str = "") -> None:
    """ADDRESS = the address as an IPv4 number; jump to `other` for IPv6 outside of loopback and mapped addresses.

    0.0.0.0 and ::, which connect as loopback, count as 127.0.0.1 unless a label `unspecified` is given.
    """
    if version == 4:
        program.load(ADDRESS, CONTEXT, IP4)
        program.swap_to_network(ADDRESS, 32)
    else:
        for word in (0, 1):
            program.load(1, CONTEXT, IP6 + 4 * word)
            program.jump_if(1, "!=", 0, other)
        program.load(1, CONTEXT, IP6 + 8)
        program.swap_to_network(1, 32)
        program.load(ADDRESS, CONTEXT, IP6 + 12)
        program.swap_to_network(ADDRESS, 32)
        program.jump_if(1, "==", 0xFFFF, "ipv4")
        program.jump_if(1, "!=", 0, other)
        program.jump_if(ADDRESS, ">", 1, other)  # neither :: nor ::1
        program.jump_if(ADDRESS, "==", 0, "ipv4")
        program.set(ADDRESS, LOOPBACK)
        program.label("ipv4")
    if unspecified:
        program.jump_if(ADDRESS, "==", 0, unspecified)
    else:
        program.jump_if(ADDRESS, "!=", 0, "specified")
        program.set(ADDRESS, LOOPBACK)
        program.label("specified")


def give_address(program: BpfProgram, version: int) -> None:
    """Replace the socket's address by ADDRESS; for IPv6 in its mapped form."""
    program.swap_to_network(ADDRESS, 32)
    if version == 4:
        program.store(CONTEXT, IP4, ADDRESS)
        return
    program.set(1, 0)
    program.store(CONTEXT, IP6, 1)
    program.store(CONTEXT, IP6 + 4, 1)
    program.set(1, 0xFFFF)
    program.swap_to_network(1, 32)
    program.store(CONTEXT, IP6 + 8, 1)
    program.store(CONTEXT, IP6 + 12, ADDRESS)


def own_address(program: BpfProgram) -> None:
    """ADDRESS = the own address of the instance with UID."""
    program.copy_low(ADDRESS, UID)
    program.add(ADDRESS, (int(FIRST_ADDRESS) - INSTANCE_UIDS.start) & 0xFFFF_FFFF)


def take_uid(program: BpfProgram) -> None:
    """UID = the calling process's."""
    program.call(GET_CURRENT_UID_GID)  # of the initial user namespace, the gid in the high half
    program.copy_low(UID, RESULT)


def jump_unless_instance(program: BpfProgram) -> None:
    """UID = the calling process's; jump to "allow" if it is not an instance."""
    take_uid(program)
    program.jump_if(UID, "<", INSTANCE_UIDS.start, "allow")
    program.jump_if(UID, ">=", INSTANCE_UIDS.stop, "allow")


def leave_unless_tcp_of_an_instance(program: BpfProgram) -> None:
    """Set UID and PORT_NUMBER for a stream socket of an instance; jump to "allow" for any other."""
    program.load(1, CONTEXT, TYPE)
    program.jump_if(1, "!=", socket.SOCK_STREAM, "allow")
    jump_unless_instance(program)
    program.load(PORT_NUMBER, CONTEXT, PORT)
    program.swap_to_network(PORT_NUMBER, 16)


def jump_unless_loopback(program: BpfProgram, label: str) -> None:
    """Jump to `label` if ADDRESS is not in 127.0.0.0/8."""
    program.copy_low(1, ADDRESS)
    program.mask(1, 0xFF00_0000)
    program.jump_if(1, "!=", 0x7F00_0000, label)


def jump_if_ipv4(program: BpfProgram, address: Address, port: int, label: str) -> None:
    """Jump to `label` if the destination is `address` (IPv4) and `port`."""
    after = f"not {address}:{port} for {label}"
    program.jump_if(PORT_NUMBER, "!=", port, after)
    program.jump_if(ADDRESS, "==", int(address), label)
    program.label(after)


def jump_if_ipv6(program: BpfProgram, address: Address, port: int, label: str) -> None:
    """Jump to `label` if the destination is `address` (IPv6) and `port`."""
    after = f"not {address}:{port} for {label}"
    program.jump_if(PORT_NUMBER, "!=", port, after)
    for word in range(4):
        program.load(1, CONTEXT, IP6 + 4 * word)
        program.swap_to_network(1, 32)
        program.jump_if(1, "!=", int.from_bytes(address.packed[4 * word : 4 * word + 4]), after)
    program.jump(label)
    program.label(after)


def refuse_ports(program: BpfProgram, ports: Iterable[int]) -> None:
    """Refuse connections to any of `ports`."""
    for port in sorted(ports):
        program.jump_if(PORT_NUMBER, "==", port, "refuse")


def end(program: BpfProgram) -> None:
    """Add the two exits that all programs jump to."""
    program.label("refuse")
    program.leave(REFUSE)
    program.label("allow")
    program.leave(ALLOW)
