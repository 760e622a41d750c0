"""The program that runs when a socket is connected. It covers the ways out of an instance one after another."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from rescoldo.isolation.bpf import BpfProgram
from rescoldo.isolation.fencing.addresses import LOOPBACK, Address, Endpoints, GatewayListener
from rescoldo.isolation.fencing.guards import guard_gateways, guard_instances, guard_stand_ins
from rescoldo.isolation.fencing.kernel import CONTEXT, PORT_NUMBER
from rescoldo.isolation.fencing.leads import lead_to_gateway, lead_to_stand_in, prefer_own_server
from rescoldo.isolation.fencing.steps import (
    end,
    jump_if_ipv4,
    jump_if_ipv6,
    jump_unless_loopback,
    leave_unless_tcp_of_an_instance,
    refuse_ports,
    take_address,
)


def at_connect(version: int, forbidden: Endpoints, gateway: GatewayListener | None) -> bytes:
    """Decide where a connection may go; redirect it if the instance has a place of its own for it."""
    return _Connect(version, forbidden, gateway).assemble()


@dataclass(frozen=True, slots=True)
class _Connect:
    """Assembles the program. The kernel rejects unreachable code, so a branch without a jump to it is left out."""

    version: int
    forbidden: Endpoints
    gateway: GatewayListener | None
    program: BpfProgram = field(default_factory=BpfProgram)

    def assemble(self) -> bytes:
        program = self.program
        program.copy(CONTEXT, 1)
        take_address(program, self.version, other="elsewhere in IPv6")
        guard_gateways(program, instances="a gateway's")
        guard_stand_ins(program)
        guard_instances(program, others="unguarded", edge="the edge's")
        program.label("unguarded")
        leave_unless_tcp_of_an_instance(program)
        jump_unless_loopback(program, "elsewhere in IPv4")
        self._to_loopback()
        self._elsewhere(4)
        if self.version == 6:
            self._elsewhere(6)
        self._to_gateway()
        program.label("the edge's")
        lead_to_stand_in(program, self.version)
        end(program)
        return program.assemble()

    def _to_loopback(self) -> None:
        """Lead to the instance's own server; without one, to the gateway or to the host's server."""
        for address, port in self._gateway_at_loopback():
            if address.is_unspecified:  # every loopback address
                self.program.jump_if(PORT_NUMBER, "==", port, "own or gateway")
            else:
                jump_if_ipv4(self.program, address, port, "own or gateway")
        prefer_own_server(self.program, self.version, "the host's")
        refuse_ports(self.program, {port for _, port in self.forbidden})
        self.program.jump("allow")

    def _elsewhere(self, version: int) -> None:
        """Lead to other machines, and to other addresses of this machine."""
        jump = jump_if_ipv4 if version == 4 else jump_if_ipv6
        self.program.label(f"elsewhere in IPv{version}")
        if version == 6:  # IPv4 addresses have passed this check already
            leave_unless_tcp_of_an_instance(self.program)
        for address, port in self._gateway_elsewhere(version):
            jump(self.program, address, port, "gateway")
        refuse_ports(self.program, {port for address, port in self.forbidden if address.is_unspecified})
        for address, port in _of_version(version, self.forbidden):
            jump(self.program, address, port, "refuse")
        self.program.jump("allow")

    def _to_gateway(self) -> None:
        self.program.label("a gateway's")
        leave_unless_tcp_of_an_instance(self.program)
        if self.gateway is not None:
            for port in self.gateway.ports:
                jump_if_ipv4(self.program, self.gateway.address, port, "gateway")
        self.program.jump("allow")  # another platform's gateway; that platform's fence handles it
        if self._gateway_at_loopback():
            self.program.label("own or gateway")
            prefer_own_server(self.program, self.version, "the gateway's")
        if self.gateway is not None:
            self.program.label("gateway")
            lead_to_gateway(self.program, self.version, self.gateway)

    def _gateway_elsewhere(self, version: int) -> Endpoints:
        return _of_version(version, self.gateway.elsewhere) if self.gateway is not None else []

    def _gateway_at_loopback(self) -> Endpoints:
        """Return the gateway's listeners at loopback for other clients, with ::1 as 127.0.0.1 (see `take_address`)."""
        if self.gateway is None:
            return []
        found: dict[tuple[Address, int], None] = {}
        for address, port in self.gateway.elsewhere:
            if address.is_unspecified or (address.version == 4 and address.is_loopback):
                found[address, port] = None
            elif address.is_loopback and self.version == 6:
                found[ipaddress.IPv4Address(LOOPBACK), port] = None
        return list(found)


def _of_version(version: int, endpoints: Endpoints) -> Endpoints:
    return [(address, port) for address, port in endpoints if address.version == version]
