"""The program that runs when a socket is bound."""

from __future__ import annotations

from rescoldo.isolation.bpf import BpfProgram
from rescoldo.isolation.fencing.addresses import SECOND
from rescoldo.isolation.fencing.kernel import (
    ADDRESS,
    ALLOW,
    ALLOW_PRIVILEGED_PORT,
    CONTEXT,
    PORT_NUMBER,
    PRIORITY,
    SOCKET,
    WANTS_V6ONLY,
)
from rescoldo.isolation.fencing.steps import (
    give_address,
    jump_unless_loopback,
    leave_unless_tcp_of_an_instance,
    own_address,
    take_address,
)


def at_bind(version: int) -> bytes:
    """Bind an instance's TCP socket to the instance's own address, whatever address it asked for.

    Exception: port 0 outside of loopback, which stays as open as the host's own sockets.
    """
    program = BpfProgram()
    program.copy(CONTEXT, 1)
    leave_unless_tcp_of_an_instance(program)
    program.jump_if(PORT_NUMBER, "!=", 0, "own")
    take_address(program, version, other="allow", unspecified="allow")
    jump_unless_loopback(program, "allow")
    program.label("own")
    own_address(program)
    if version == 6:
        program.load_pointer(1, CONTEXT, SOCKET)
        program.load(1, 1, PRIORITY)
        program.jump_if(1, "!=", WANTS_V6ONLY, "first")
        program.add(ADDRESS, SECOND)
        program.label("first")
    give_address(program, version)
    program.leave(ALLOW_PRIVILEGED_PORT)
    program.label("allow")
    program.leave(ALLOW)
    return program.assemble()
