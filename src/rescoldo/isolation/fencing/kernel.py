"""What the fence's programs share with the kernel: numbers and offsets of linux/bpf.h, and their use of registers."""

from __future__ import annotations

# types of programs
SOCK_ADDR = 18  # BPF_PROG_TYPE_CGROUP_SOCK_ADDR
SOCKOPT = 25  # BPF_PROG_TYPE_CGROUP_SOCKOPT
# attach types
BIND4, BIND6, CONNECT4, CONNECT6, SENDMSG4, SENDMSG6, OPTION = 8, 9, 10, 11, 14, 15, 22
# helper functions
GET_CURRENT_UID_GID = 15
SETSOCKOPT = 49
BIND = 64
SK_LOOKUP_TCP = 84
SK_RELEASE = 86

# offsets in struct bpf_sock_addr, which a program gets as its context
IP4 = 4
IP6 = 8  # four words
PORT = 24
TYPE = 32
SOCKET = 64
# in struct bpf_sock
PRIORITY = 20
LOCAL_IP4 = 24

# what a program of SOCK_ADDR ends with
REFUSE = 0
ALLOW = 1
ALLOW_PRIVILEGED_PORT = 3  # of bind: below 1024, too, as no other process can have that address

# Registers, by what the programs keep in them. Between two steps RESULT and 1 to 5 hold nothing.
RESULT, CONTEXT, UID, ADDRESS, PORT_NUMBER, STACK = 0, 6, 7, 8, 9, 10

# A socket's priority says that it asked for IPV6_V6ONLY: no process may set one above 6 without rights.
WANTS_V6ONLY = 0x7265_7363
