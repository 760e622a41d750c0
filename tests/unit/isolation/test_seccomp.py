"""The filter as a program: an interpreter of classic BPF runs it, for every architecture on any machine."""

from __future__ import annotations

import errno
import re
import socket
import stat
import struct
from pathlib import Path

import pytest

from rescoldo.isolation.seccomp import build
from rescoldo.isolation.syscall_numbers import ASKED, MACHINES, OF_ONE_UID, numbers

ARCH = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
I386 = 0x4000_0003
ARM = 0x4000_0028
ALLOW = 0x7FFF_0000
KILL = 0x8000_0000
ASK = 0x7FC0_0000
LONGEST = 4096  # instructions; the kernel's BPF_MAXINSNS


def verdict(program: bytes, number: int, arguments: tuple[int, ...], arch: int) -> int:
    data = struct.pack("=iIQ6Q", number, arch, 0, *arguments, *([0] * (6 - len(arguments))))
    code = list(struct.iter_unpack("=HBBI", program))
    at = accumulator = 0
    while True:
        kind, if_true, if_false, value = code[at]
        at += 1
        match kind:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case 0x54:
                accumulator &= value
            case 0x15:
                at += if_true if accumulator == value else if_false
            case 0x35:
                at += if_true if accumulator >= value else if_false
            case 0x45:
                at += if_true if accumulator & value else if_false
            case 0x06:
                return value
            case other:
                raise AssertionError(f"no such instruction: {other:#x}")


def ask(machine: str, name: str, *arguments: int, shared_uid: bool = False) -> int:
    return verdict(build(machine, shared_uid=shared_uid), numbers(machine)[name], arguments, ARCH[machine])


def refused(number: int) -> int:
    return 0x0005_0000 | number


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("shared_uid", [False, True])
def test_only_the_named_calls_are_checked_and_all_others_allowed(machine: str, shared_uid: bool) -> None:
    program = build(machine, shared_uid=shared_uid)
    judged = {n for n in range(600) if verdict(program, n, (0xFFFF,) * 6, ARCH[machine]) != ALLOW}
    ignored = {"seccomp", *ASKED} | (set() if shared_uid else set(OF_ONE_UID))
    by_mode_or_command = {"clone", "ioctl", "mknod", "mknodat"}  # they do not refuse 0xFFFF
    assert judged == {n for name, n in numbers(machine).items() if name not in ignored | by_mode_or_command}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_call_of_another_architecture_kills_the_process(machine: str) -> None:
    program = build(machine, shared_uid=False)
    others = {I386, ARM, *ARCH.values()} - {ARCH[machine]}
    assert {verdict(program, 39, (), arch) for arch in others} == {KILL}


def test_an_x32_call_kills_the_process_and_minus_one_is_an_unknown_call() -> None:
    program = build("x86_64", shared_uid=False)
    assert verdict(program, 0x4000_0000 + 39, (), ARCH["x86_64"]) == KILL
    assert verdict(program, -1, (), ARCH["x86_64"]) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_clone_makes_threads_and_processes_but_no_namespaces(machine: str) -> None:
    thread, fork = 0x3D0F00, 0x1200011
    assert [ask(machine, "clone", flags) for flags in (thread, fork)] == [ALLOW, ALLOW]
    kinds = (0x2000_0000, 0x4000_0000, 0x1000_0000, 0x0800_0000, 0x0400_0000, 0x0200_0000, 0x0002_0000)
    assert {ask(machine, "clone", fork | kind) for kind in kinds} == {refused(errno.EPERM)}
    assert ask(machine, "clone3") == refused(errno.ENOSYS)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_filter_that_asks_asks_for_processes_and_sessions_and_for_nothing_else(machine: str) -> None:
    program = build(machine, shared_uid=True, asking=True)
    thread, fork, namespace = 0x3D0F00, 0x1200011, 0x1200011 | 0x1000_0000
    names = numbers(machine)

    def ask_for(name: str, *arguments: int) -> int:
        return verdict(program, names[name], arguments, ARCH[machine])

    assert [ask_for("clone", flags) for flags in (thread, fork, namespace)] == [ALLOW, ASK, refused(errno.EPERM)]
    assert {ask_for(name) for name in ASKED if name in names} == {ASK}
    assert ask_for("clone3") == refused(errno.ENOSYS)
    plain = build(machine, shared_uid=True)
    others = set(range(600)) - {names[name] for name in (*ASKED, "clone") if name in names}
    assert all(verdict(program, n, (0,), ARCH[machine]) == verdict(plain, n, (0,), ARCH[machine]) for n in others)


@pytest.mark.parametrize("machine", MACHINES)
def test_sockets_are_limited_to_four_families_and_their_plain_protocols(machine: str) -> None:
    assert ask(machine, "socket", socket.AF_UNIX, 1, 0) == ALLOW
    for family in (socket.AF_INET, socket.AF_INET6):
        assert {ask(machine, "socket", family, 1, protocol) for protocol in (0, 1, 6, 17, 58)} == {ALLOW}
        multipath, smc, sctp, raw = 262, 256, 132, 255
        answers = {ask(machine, "socket", family, 1, protocol) for protocol in (multipath, smc, sctp, raw)}
        assert answers == {refused(errno.EPROTONOSUPPORT)}
    assert ask(machine, "socket", socket.AF_NETLINK, 3, 0) == ALLOW
    netfilter, diagnosis = 12, 4
    answers = {ask(machine, "socket", socket.AF_NETLINK, 3, protocol) for protocol in (netfilter, diagnosis)}
    assert answers == {refused(errno.EPROTONOSUPPORT)}
    others = set(range(50)) - {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}
    assert {ask(machine, "socket", family) for family in others} == {refused(errno.EAFNOSUPPORT)}


@pytest.mark.parametrize("machine", MACHINES)
def test_the_high_half_of_an_argument_is_ignored(machine: str) -> None:
    high = 0xDEAD_BEEF << 32
    assert ask(machine, "clone", high | 0x1000_0011) == refused(errno.EPERM)
    assert ask(machine, "ioctl", 0, high | 0x5412) == refused(errno.EPERM)
    assert ask(machine, "socket", high | 40) == refused(errno.EAFNOSUPPORT)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_shared_uid_forbids_calls_that_reach_other_processes_of_the_uid(machine: str) -> None:
    def ask_shared(name: str, *arguments: int) -> int:
        return ask(machine, name, *arguments, shared_uid=True)

    denied = refused(errno.EACCES)
    assert ask_shared("socket", socket.AF_UNIX, 1, 0) == denied
    close_on_exec = 0x80000
    pairs = [ask_shared("socketpair", socket.AF_UNIX, kind | close_on_exec) for kind in (1, 5, 2, 3)]
    assert pairs == [ALLOW, ALLOW, denied, denied]
    assert {ask_shared(name) for name in ("shmget", "semget", "msgget", "mq_open")} == {denied}
    assert [ask_shared("prlimit64", pid) for pid in (0, 1, 4711)] == [ALLOW, refused(errno.EPERM), refused(errno.EPERM)]


@pytest.mark.parametrize("machine", MACHINES)
def test_device_files_terminals_and_personalities_are_checked_by_argument(machine: str) -> None:
    eperm = refused(errno.EPERM)
    modes = (stat.S_IFREG | 0o600, stat.S_IFIFO | 0o600, 0o600, stat.S_IFCHR | 0o600, stat.S_IFBLK | 0o600)
    assert [ask(machine, "mknodat", 0, 0, mode) for mode in modes] == [ALLOW, ALLOW, ALLOW, eperm, eperm]
    assert [ask(machine, "ioctl", 0, command) for command in (0x5401, 0x5412, 0x541C)] == [ALLOW, eperm, eperm]
    kinds = (0, 0x0040000, 0xFFFF_FFFF, 8, 0x0400000)
    assert [ask(machine, "personality", kind) for kind in kinds] == [ALLOW, ALLOW, ALLOW, eperm, eperm]


@pytest.mark.parametrize("machine", MACHINES)
def test_every_path_through_the_filter_ends_and_it_is_small(machine: str) -> None:
    code = list(struct.iter_unpack("=HBBI", build(machine, shared_uid=True)))
    assert len(code) < LONGEST
    jumps = [(at, jump) for at, (kind, *pair, _) in enumerate(code) if kind & 7 == 5 for jump in pair]
    assert jumps and all(at + 1 + jump < len(code) for at, jump in jumps)
    assert code[-1][0] == 0x06


HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "/usr/include/asm-generic/unistd.h"}


@pytest.mark.parametrize("machine", MACHINES)
def test_call_numbers_match_the_kernels_headers(machine: str) -> None:
    header = Path(HEADERS[machine])
    if not header.exists():
        pytest.skip(f"{header} is not installed")
    defined = {name: int(n) for name, n in re.findall(r"define __NR(?:3264)?_(\w+)\s+(\d+)$", header.read_text(), re.M)}
    ours = numbers(machine)
    assert {name: number for name, number in ours.items() if name in defined} == {
        name: number for name, number in defined.items() if name in ours
    }
    assert set(ours) - set(defined) <= {"open_tree_attr"}  # Linux 6.15
