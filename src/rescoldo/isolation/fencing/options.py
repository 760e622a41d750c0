"""The program that runs when a socket option is set."""

from __future__ import annotations

import socket

from rescoldo.isolation.bpf import BpfProgram
from rescoldo.isolation.fencing.kernel import ALLOW, CONTEXT, SETSOCKOPT, STACK, WANTS_V6ONLY
from rescoldo.isolation.fencing.steps import jump_unless_instance

# offsets in struct bpf_sockopt
_OPTION_SOCKET = 0
_VALUE = 8
_VALUE_END = 16
_LEVEL = 24
_OPTION_NAME = 28
_LENGTH = 32
# results, written as the length of the option
_ALREADY_DONE = 0xFFFF_FFFF  # -1: the kernel skips the call
_AS_IT_IS = 0  # the kernel uses the caller's value
_MOST_SEEN = 4096  # bytes of an option visible to a program


def at_set_option() -> bytes:
    """Record that an instance's socket asked for IPV6_V6ONLY, and do not set it."""
    program = BpfProgram()
    program.copy(CONTEXT, 1)
    program.load(1, CONTEXT, _LENGTH)
    program.jump_if(1, "==", _ALREADY_DONE, "allow")  # another fence has handled it
    program.jump_if(1, ">", _MOST_SEEN, "large")
    program.load(1, CONTEXT, _LEVEL)
    program.jump_if(1, "!=", socket.IPPROTO_IPV6, "allow")
    program.load(1, CONTEXT, _OPTION_NAME)
    program.jump_if(1, "!=", socket.IPV6_V6ONLY, "allow")
    jump_unless_instance(program)
    program.load_pointer(1, CONTEXT, _VALUE)
    program.load_pointer(2, CONTEXT, _VALUE_END)
    program.copy(3, 1)
    program.add_to_pointer(3, 4)
    program.jump_if_beyond(3, 2, "allow")
    program.load(1, 1, 0)
    program.jump_if(1, "==", 0, "allow")
    program.set(1, WANTS_V6ONLY)
    program.store(STACK, -4, 1)
    program.load_pointer(1, CONTEXT, _OPTION_SOCKET)
    program.set(2, socket.SOL_SOCKET)
    program.set(3, socket.SO_PRIORITY)
    program.copy(4, STACK)
    program.add_to_pointer(4, -4)
    program.set(5, 4)
    program.call(SETSOCKOPT)
    program.set(1, _ALREADY_DONE)
    program.store(CONTEXT, _LENGTH, 1)
    program.jump("allow")
    program.label("large")
    program.set(1, _AS_IT_IS)
    program.store(CONTEXT, _LENGTH, 1)
    program.label("allow")
    program.leave(ALLOW)
    return program.assemble()
