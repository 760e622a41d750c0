"""Guards the fence's own addresses: those of gateways, stand-ins and instances."""

from __future__ import annotations

from rescoldo.isolation.bpf import BpfProgram
from rescoldo.isolation.fencing.addresses import GATEWAYS, INSTANCES, SECOND, STAND_INS
from rescoldo.isolation.fencing.kernel import ADDRESS, CONTEXT, PORT_NUMBER, UID
from rescoldo.isolation.fencing.steps import end, own_address, take_address, take_uid
from rescoldo.model.ids import EDGE_UID, INSTANCE_UIDS


def guard_gateways(program: BpfProgram, *, instances: str) -> None:
    """Refuse GATEWAYS to everyone but instances and root; jump to `instances` for instances. Other addresses fall
    through."""
    program.copy_low(1, ADDRESS)
    program.mask(1, int(GATEWAYS.netmask))
    program.jump_if(1, "!=", int(GATEWAYS.network_address), "no gateway's")
    take_uid(program)
    program.jump_if(UID, "==", 0, "allow")
    program.jump_if(UID, "<", INSTANCE_UIDS.start, "refuse")
    program.jump_if(UID, "<", INSTANCE_UIDS.stop, instances)
    program.jump("refuse")
    program.label("no gateway's")


def guard_stand_ins(program: BpfProgram) -> None:
    """Refuse STAND_INS to everyone but root and the edge. Other addresses fall through."""
    program.copy_low(1, ADDRESS)
    program.mask(1, int(STAND_INS.netmask))
    program.jump_if(1, "!=", int(STAND_INS.network_address), "no stand-in's")
    take_uid(program)
    program.jump_if(UID, "==", 0, "allow")
    program.jump_if(UID, "==", EDGE_UID, "allow")
    program.jump("refuse")
    program.label("no stand-in's")


def guard_instances(program: BpfProgram, *, others: str, edge: str) -> None:
    """Decide about an instance's address; jump to `others` for any other address, to `edge` if the edge connects."""
    program.copy_low(1, ADDRESS)
    program.mask(1, int(INSTANCES.netmask))
    program.jump_if(1, "!=", int(INSTANCES.network_address), others)
    take_uid(program)
    program.jump_if(UID, "==", 0, "allow")  # the node polls whether a server accepts
    program.jump_if(UID, "==", EDGE_UID, edge)
    program.jump_if(UID, "<", INSTANCE_UIDS.start, "refuse")
    program.jump_if(UID, ">=", INSTANCE_UIDS.stop, "refuse")
    asked = PORT_NUMBER
    program.copy_low(asked, ADDRESS)
    program.mask(asked, ~SECOND & 0xFFFF_FFFF)
    own_address(program)
    program.jump_if_registers(asked, "==", ADDRESS, "allow")
    program.jump("refuse")


def at_send(version: int) -> bytes:
    """Keep datagrams from the fence's addresses, as `at_connect` does with connections."""
    program = BpfProgram()
    program.copy(CONTEXT, 1)
    take_address(program, version, other="allow")
    guard_gateways(program, instances="allow")
    guard_stand_ins(program)
    guard_instances(program, others="allow", edge="allow")
    end(program)
    return program.assemble()
