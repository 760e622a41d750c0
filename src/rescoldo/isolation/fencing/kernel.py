"""The fence's interface with the kernel: numbers and offsets of linux/bpf.h, and the use of registers."""

from __future__ import annotations

# program types
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

# offsets in struct bpf_sock_addr, the context of a program
IP4 = 4
IP6 = 8  # four words
PORT = 24
TYPE = 32
SOCKET = 64
# in struct bpf_sock
PRIORITY = 20
LOCAL_IP4 = 24

# results of a SOCK_ADDR program
REFUSE = 0
ALLOW = 1
ALLOW_PRIVILEGED_PORT = 3  # of bind: also below 1024, because no other process can have that address

# Registers, by their content. Between two steps RESULT and 1 to 5 are unused.
RESULT, CONTEXT, UID, ADDRESS, PORT_NUMBER, STACK = 0, 6, 7, 8, 9, 10

# A socket with this priority has asked for IPV6_V6ONLY. The value is safe: without rights no process can set a priority
# above 6.
WANTS_V6ONLY = 0x7265_7363
