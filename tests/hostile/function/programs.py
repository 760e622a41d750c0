"""Attacks by a binary: system calls that no library makes."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
from collections.abc import Collection

from .kit import Target, Tries, attack

_BINARY = "/tmp/attack"
_KILLED = {signal.SIGSYS}


def _run(target: Target, tries: Tries, what: str, refusals: Collection[int]) -> None:
    """Let the binary make one call. It exits with the errno (0: the call succeeded), or the kernel kills it for the
    call."""
    binary = f"{os.environ['TMPDIR']}/attack"
    if not os.path.exists(binary):
        with open(f"{target['own']['code']}/function/attack", "rb") as source, open(binary, "wb") as copy:
            copy.write(source.read())
        os.chmod(binary, stat.S_IRWXU)
    done = subprocess.run([binary, what], capture_output=True, timeout=20, check=False, stdin=subprocess.DEVNULL)
    code = done.returncode
    if code == -signal.SIGSYS:
        tries.refused[what] = "killed (SIGSYS)"
    elif code in refusals:
        tries.refused[what] = errno.errorcode[code]
    else:
        tries.gained[what] = f"it ended with {code}: {done.stdout!r}"


@attack("makes 32-bit system calls, whose numbers mean other calls")
def calls_of_32_bit(target: Target, tries: Tries) -> None:
    _run(target, tries, "int80-getpid", ())
    _run(target, tries, "int80-mount", ())


@attack("makes x32 system calls, which have their own numbers")
def calls_of_x32(target: Target, tries: Tries) -> None:
    _run(target, tries, "x32-getpid", ())
    _run(target, tries, "x32-ptrace", ())


@attack("makes refused system calls directly, without a library")
def direct_calls(target: Target, tries: Tries) -> None:
    for call in ("mount", "unshare", "ptrace", "bpf", "keyctl", "chroot", "setns"):
        _run(target, tries, f"direct-{call}", (errno.EPERM,))
    _run(target, tries, "direct-io_uring", (errno.ENOSYS,))


@attack("hides arguments in bits that the kernel ignores and a careless filter checks")
def high_bits(target: Target, tries: Tries) -> None:
    _run(target, tries, "high-socket", (errno.EAFNOSUPPORT,))
    _run(target, tries, "high-clone", (errno.EPERM,))
    _run(target, tries, "high-personality", (errno.EPERM,))
    _run(target, tries, "high-number", (errno.EPERM, errno.ENOSYS))


@attack("clones with each flag that makes a namespace")
def clone_flags(target: Target, tries: Tries) -> None:
    for flag in ("newuser", "newns", "newpid", "newnet", "newipc", "newuts", "newcgroup"):
        _run(target, tries, f"clone-{flag}", (errno.EPERM,))
    _run(target, tries, "clone3-newuser", (errno.ENOSYS,))


@attack("removes the filter or the ban on new privileges")
def filter_removed(target: Target, tries: Tries) -> None:
    _run(target, tries, "no-new-privs-off", (errno.EINVAL, errno.EPERM))
    _run(target, tries, "seccomp-off", (errno.EINVAL, errno.EPERM))
    _run(target, tries, "filter-allow-all-then-mount", (errno.EPERM,))
