"""The system calls that an instance may not make: a seccomp filter in classic BPF.

It refuses calls that functions never need and that have often been the way out of a sandbox. All others are allowed,
so that any program runs. A binary search finds the call: the kernel compiles the filter when it is installed and tries
it on every number, so 70 comparisons in a row would take noticeable time there.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import socket
import stat
import struct

from rescoldo.isolation.syscall_numbers import ABSENT, ASKED, OF_ONE_UID, REFUSED, numbers
from rescoldo.isolation.syscalls import raw_syscall

# linux/audit.h: EM_X86_64 and EM_AARCH64, 64 bit, little endian
_AUDIT_ARCH = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
_X32 = 0x4000_0000  # numbers of x86_64's 32-bit-pointer variant start here
_NO_SYSCALL = 0xFFFF_FFFF  # -1, which the kernel answers with ENOSYS

# linux/seccomp.h
_SET_MODE_FILTER = 1
_GET_ACTION_AVAIL = 2
_FLAG_TSYNC = 1
_FLAG_NEW_LISTENER = 8
_KILL_PROCESS = 0x8000_0000
_ASK = 0x7FC0_0000  # SECCOMP_RET_USER_NOTIF
_ALLOW = 0x7FFF_0000
_ERRNO = 0x0005_0000

# struct seccomp_data: int nr; u32 arch; u64 instruction_pointer; u64 args[6]
_NR = 0
_ARCH = 4
_FIRST_ARGUMENT = 16

# linux/bpf_common.h
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

# CLONE_NEW* of linux/sched.h that clone(2) takes: cgroup, uts, ipc, user, pid, net and mount namespace
_NEW_NAMESPACE = 0x7E02_0000
_THREAD = 0x0001_0000  # CLONE_THREAD
_TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI and TIOCLINUX type into a terminal
_PERSONALITIES = (0, 0x0004_0000, 0xFFFF_FFFF)  # the usual one, ADDR_NO_RANDOMIZE, a query
# Any, ICMP, TCP, UDP, ICMPv6. Multipath TCP, above all, is missing: its connections bypass the programs that guard
# instances' ports.
_PROTOCOLS = (0, 1, 6, 17, 58)
_IOPRIO_WHO_PROCESS = 1
_NETLINK_ROUTE = 0  # enough for getaddrinfo and lists of interfaces
_SOCKET_TYPE = 0xF  # without SOCK_NONBLOCK and SOCK_CLOEXEC

_Instruction = tuple[int, int, int, int]  # struct sock_filter: code, jump if true, if false, constant
_Code = list[_Instruction]  # always ends with a return


def available() -> bool:
    """Whether this kernel accepts the filter and we have one for this machine."""
    action = ctypes.c_uint32(_KILL_PROCESS)
    try:
        _seccomp(_GET_ACTION_AVAIL, 0, ctypes.byref(action))
    except (OSError, KeyError):
        return False
    return True


def install(*, shared_uid: bool) -> None:
    """Put all threads of this process, and their descendants, under the filter for good.

    Call no_new_privileges() before, or have CAP_SYS_ADMIN. `shared_uid`: see `build`. Raises OSError.
    """
    if _install(build(os.uname().machine, shared_uid=shared_uid), _FLAG_TSYNC) != 0:
        raise OSError(errno.EBUSY, "seccomp: a thread of this process has a filter of its own")


def install_asking(*, shared_uid: bool) -> int:
    """As `install`, with a filter that asks for each fork; return the listener's descriptor, close-on-exec.

    The process that has the listener answers (`ForkListener` in forks.py). When the last copy of it is closed, forks
    fail with ENOSYS. Call this before there are threads. Raises OSError: EBUSY where a filter with a listener is in
    force.
    """
    return _install(build(os.uname().machine, shared_uid=shared_uid, asking=True), _FLAG_NEW_LISTENER)


def _install(program: bytes, flags: int) -> int:
    code = ctypes.create_string_buffer(program, len(program))
    header = _Program(len(program) // _INSTRUCTION.size, ctypes.addressof(code))
    return _seccomp(_SET_MODE_FILTER, flags, ctypes.byref(header))


@functools.cache
def build(machine: str, *, shared_uid: bool, asking: bool = False) -> bytes:
    """Return the filter for `machine` (x86_64 or aarch64), an array of struct sock_filter. Raises KeyError for another
    machine.

    `shared_uid` is for instances without a uid and an IPC namespace of their own. The filter then also refuses what
    the kernel allows among processes of one uid: Unix sockets (except connected stream pairs), System V and POSIX
    queues, semaphores and shared memory, and setting another process's limits, priority or processors.

    `asking`: what makes a process, and setsid, waits for an answer of the listener. Threads need none.
    """
    answers = _answers(shared_uid)
    if asking:
        answers |= dict.fromkeys(ASKED, _return(_ASK))
        answers["clone"] = _clone(_when(_ANY_BIT, _THREAD, _return(_ALLOW), _return(_ASK)))
    numbered = {number: answers[name] for name, number in numbers(machine).items() if name in answers}
    allow = _return(_ALLOW)
    ranges: list[tuple[int, _Code]] = [(0, allow)]  # the first number of each
    for number, code in sorted(numbered.items()):
        if ranges[-1][0] == number:
            ranges.pop()
        if not ranges or ranges[-1][1] != code:
            ranges.append((number, code))
        ranges.append((number + 1, allow))
    kill = _return(_KILL_PROCESS)
    search = _search(ranges)
    if machine == "x86_64":
        search = _when(_AT_LEAST, _X32, _when(_EQUAL, _NO_SYSCALL, allow, kill), search)
    code = [_load(_ARCH), *_unless(_EQUAL, _AUDIT_ARCH[machine], kill, [_load(_NR), *search])]
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in code)


def _answers(shared_uid: bool) -> dict[str, _Code]:
    """Return the filter's action for each call that is not simply allowed."""
    refuse = _error(errno.EPERM)
    answers = dict.fromkeys(REFUSED, refuse) | dict.fromkeys(ABSENT, _error(errno.ENOSYS))
    answers["clone"] = _clone(_return(_ALLOW))
    answers["ioctl"] = _by_argument(1, dict.fromkeys(_TERMINAL_INPUT, refuse), _return(_ALLOW))
    answers["personality"] = _by_argument(0, dict.fromkeys(_PERSONALITIES, _return(_ALLOW)), refuse)
    answers["mknod"] = _file_kind(1)
    answers["mknodat"] = _file_kind(2)
    families: dict[int, _Code] = {
        socket.AF_INET: _protocol(*_PROTOCOLS),
        socket.AF_INET6: _protocol(*_PROTOCOLS),
        socket.AF_UNIX: _return(_ALLOW),
        socket.AF_NETLINK: _protocol(_NETLINK_ROUTE),
    }
    pairs: dict[int, _Code] = {socket.AF_UNIX: _return(_ALLOW)}
    if shared_uid:
        answers |= dict.fromkeys(OF_ONE_UID, _error(errno.EACCES))
        oneself = {0: _return(_ALLOW)}
        scheduling = ("sched_setparam", "sched_setscheduler", "sched_setaffinity", "sched_setattr")
        answers |= dict.fromkeys(("prlimit64", *scheduling), _by_argument(0, oneself, refuse))
        for name, process in (("setpriority", os.PRIO_PROCESS), ("ioprio_set", _IOPRIO_WHO_PROCESS)):
            answers[name] = _by_argument(0, {process: _by_argument(1, oneself, refuse)}, refuse)
        families[socket.AF_UNIX] = _error(errno.EACCES)
        pairs[socket.AF_UNIX] = _connected_pair()
    answers["socket"] = _by_argument(0, families, _error(errno.EAFNOSUPPORT))
    answers["socketpair"] = _by_argument(0, pairs, _error(errno.EAFNOSUPPORT))
    return answers


def _clone(otherwise: _Code) -> _Code:
    """Refuse new namespaces; `otherwise` finds the flags loaded."""
    return [_argument(0), *_when(_ANY_BIT, _NEW_NAMESPACE, _error(errno.EPERM), otherwise)]


def _protocol(*allowed: int) -> _Code:
    return _by_argument(2, dict.fromkeys(allowed, _return(_ALLOW)), _error(errno.EPROTONOSUPPORT))


def _connected_pair() -> _Code:
    """Allow pairs of stream sockets. A datagram socket of a pair could connect anew, to anyone."""
    kinds: dict[int, _Code] = dict.fromkeys((socket.SOCK_STREAM, socket.SOCK_SEQPACKET), _return(_ALLOW))
    return _by_argument(1, kinds, _error(errno.EACCES), _SOCKET_TYPE)


def _file_kind(mode: int) -> _Code:
    """Refuse devices; the mode is the argument at position `mode`."""
    devices = dict.fromkeys((stat.S_IFCHR, stat.S_IFBLK), _error(errno.EPERM))
    return _by_argument(mode, devices, _return(_ALLOW), 0o170000)


# -- classic BPF


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


_INSTRUCTION = struct.Struct("=HBBI")


def _load(offset: int) -> _Instruction:
    return (_LOAD, 0, 0, offset)


def _argument(position: int) -> _Instruction:
    # The low half of 64 bits: every argument checked is an int (clone, too, uses only the low half).
    return _load(_FIRST_ARGUMENT + 8 * position)


def _return(value: int) -> _Code:
    return [(_RETURN, 0, 0, value)]


def _error(number: int) -> _Code:
    return _return(_ERRNO | number)


def _when(test: int, value: int, then: _Code, otherwise: _Code) -> _Code:
    return [(test, 0, len(then), value), *then, *otherwise]


def _unless(test: int, value: int, then: _Code, otherwise: _Code) -> _Code:
    return [(test, len(then), 0, value), *then, *otherwise]


def _by_argument(position: int, cases: dict[int, _Code], otherwise: _Code, mask: int | None = None) -> _Code:
    code = otherwise
    for value, then in reversed(cases.items()):
        code = _when(_EQUAL, value, then, code)
    masked = [] if mask is None else [(_AND, 0, 0, mask)]
    return [_argument(position), *masked, *code]


def _search(ranges: list[tuple[int, _Code]]) -> _Code:
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    below = _search(ranges[:middle])
    return _unless(_AT_LEAST, ranges[middle][0], below, _search(ranges[middle:]))


@functools.cache
def _number() -> int:
    return numbers(os.uname().machine)["seccomp"]


def _seccomp(operation: int, flags: int, argument: object) -> int:
    return raw_syscall("seccomp", _number(), operation, flags, argument)
