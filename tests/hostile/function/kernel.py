"""Attacks on powerful kernel interfaces and on the machine itself.

The arguments make each call harmless if it gets through. The kernel's error then differs from the refusal.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time

from .kit import Target, Tries, attack, libc, syscall

_REFUSED = (errno.EPERM,)
_ABSENT = (errno.ENOSYS,)


@attack("loads BPF programs")
def bpf(target: Target, tries: Tries) -> None:
    for command in (0, 5, 13, 18):  # create a map, load a program, find others' programs by number
        tries.do(f"bpf command {command}", lambda command=command: syscall("bpf", command, None, 0), only=_REFUSED)


@attack("measures others with performance counters (perf_event_open)")
def perf_events(target: Target, tries: Tries) -> None:
    tries.do("perf_event_open", lambda: syscall("perf_event_open", None, 0, -1, -1, 0), only=_REFUSED)


@attack("uses userfaultfd")
def userfaultfd(target: Target, tries: Tries) -> None:
    for flags in (0, 1):  # 1: user mode only, which other systems allow for everyone
        tries.do(f"userfaultfd({flags})", lambda flags=flags: syscall("userfaultfd", flags), only=_REFUSED)


@attack("uses io_uring, which bypasses a filter of system calls")
def io_uring(target: Target, tries: Tries) -> None:
    for name in ("io_uring_setup", "io_uring_enter", "io_uring_register"):
        tries.do(name, lambda name=name: syscall(name, 1, None, 0, 0, None, 0), only=_ABSENT)


@attack("loads or removes kernel modules")
def modules(target: Target, tries: Tries) -> None:
    tries.do("init_module", lambda: syscall("init_module", None, 0, b""), only=_REFUSED)
    tries.do("finit_module", lambda: syscall("finit_module", -1, b"", 0), only=_REFUSED)
    tries.do("delete_module", lambda: syscall("delete_module", b"no_such_module", 0o4000), only=_REFUSED)


@attack("sets the clock")
def clock(target: Target, tries: Tries) -> None:
    if target["level"] != "none":
        tries.do("time.clock_settime", lambda: time.clock_settime(time.CLOCK_REALTIME, 1e9), only=_REFUSED)
    tries.do("clock_settime", lambda: syscall("clock_settime", 99, None), only=_REFUSED)
    tries.do("settimeofday", lambda: syscall("settimeofday", None, None), only=_REFUSED)
    tries.do("adjtimex", lambda: syscall("adjtimex", None), only=_REFUSED)
    tries.do("clock_adjtime", lambda: syscall("clock_adjtime", 0, None), only=_REFUSED)


@attack("reboots the machine, loads another kernel, changes swap, accounting, quotas or the host's name")
def machine(target: Target, tries: Tries) -> None:
    for name, arguments in {
        "reboot": (0, 0, 0, None), "kexec_load": (0, 99, None, 0), "swapon": (b"/nowhere", 0), "vhangup": (),
        "swapoff": (b"/nowhere",), "acct": (b"/nowhere",), "quotactl": (0, None, 0, None),
        "sethostname": (b"", -1), "setdomainname": (b"", -1),
    }.items():  # fmt: skip
        tries.do(name, lambda name=name, arguments=arguments: syscall(name, *arguments), only=_REFUSED)


@attack("reads the kernel's messages")
def kernel_log(target: Target, tries: Tries) -> None:
    tries.do("syslog", lambda: syscall("syslog", 10, None, 0), only=_REFUSED)
    tries.do("/dev/kmsg", lambda: os.close(os.open("/dev/kmsg", os.O_RDONLY)))
    tries.do("/proc/kmsg", lambda: os.close(os.open("/proc/kmsg", os.O_RDONLY)))


@attack("uses the processor's ports (iopl, ioperm)")
def processor_ports(target: Target, tries: Tries) -> None:
    if os.uname().machine == "x86_64":
        tries.do("iopl", lambda: syscall("iopl", 3), only=_REFUSED)
        tries.do("ioperm", lambda: syscall("ioperm", 0, 1, 1), only=_REFUSED)
    else:
        tries.refused["iopl"] = "this processor has none"


@attack("takes the kernel's personality for older binaries")
def personality(target: Target, tries: Tries) -> None:
    for persona in (0x0008, 0x0040_0000, 0x0010_0000):  # Linux 32, READ_IMPLIES_EXEC, MMAP_PAGE_ZERO
        set_it = lambda persona=persona: libc("personality", ctypes.c_ulong(persona))  # noqa: E731
        tries.do(f"personality {persona:#x}", set_it, only=_REFUSED)
