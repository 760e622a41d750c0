"""Runs a command as a root with fewer rights, as a container's: `python rights.py [--drop CAPABILITY]… [--refuse CALL]…
[--ids NUMBER] COMMAND…`."""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import signal
import struct
import sys

from rescoldo.isolation.mounts import mount_proc
from rescoldo.isolation.syscall_numbers import numbers
from rescoldo.isolation.syscalls import CLONE_NEWNS, CLONE_NEWPID, die_with_parent, unshare

CLONE_NEWUSER = 0x1000_0000
CAPABILITIES = {"chown": 0, "dac_override": 1, "kill": 5, "setuid": 7, "sys_admin": 21, "sys_nice": 23}
PR_CAPBSET_DROP = 24
PR_SET_SECCOMP = 22
MODE_FILTER = 2
LOAD_NUMBER, EQUAL, RETURN = (0x20, 0, 0, 0), 0x15, 0x06
ALLOW, ERRNO = 0x7FFF_0000, 0x0005_0000

_prctl = ctypes.CDLL(None, use_errno=True).prctl


def fewer_rights(*options: str) -> list[str]:
    """Return the beginning of a command that runs the rest with fewer rights; the options are those of this file."""
    return [sys.executable, __file__, *options]


def drop(capability: str) -> None:
    """Take a capability from every program that this process becomes."""
    _check(_prctl(PR_CAPBSET_DROP, CAPABILITIES[capability], 0, 0, 0))


def refuse(call: str) -> None:
    """Answer a system call with EPERM from now on, as a container's seccomp profile does."""
    number = numbers(os.uname().machine)[call]
    code = [LOAD_NUMBER, (EQUAL, 0, 1, number), (RETURN, 0, 0, ERRNO | errno.EPERM), (RETURN, 0, 0, ALLOW)]
    text = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in code))
    header = struct.pack("HxxxxxxN", len(code), ctypes.addressof(text))
    _check(_prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.create_string_buffer(header), 0, 0))


def enter_user_namespace(ids: int) -> None:
    """Stay root in a user namespace that maps the first `ids` ids to themselves and owns a PID and a mount namespace,
    as a pod's with `hostUsers: false`. The caller goes on as a child; its parent passes signals and the exit status
    on."""
    inside, mapped, me = os.pipe(), os.pipe(), os.getpid()
    if (helper := os.fork()) == 0:
        os.read(inside[0], 1)
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{me}/{name}", "w") as file:  # noqa: PTH123
                file.write(f"0 0 {ids}")
        os.write(mapped[1], b"1")
        os._exit(0)
    unshare(CLONE_NEWUSER)
    os.write(inside[1], b"1")
    os.read(mapped[0], 1)
    os.waitpid(helper, 0)
    unshare(CLONE_NEWPID | CLONE_NEWNS)
    if (child := os.fork()) != 0:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: os.kill(child, number))
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
    die_with_parent(signal.SIGKILL)
    mount_proc()


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--drop", action="append", default=[])
    parser.add_argument("--refuse", action="append", default=[])
    parser.add_argument("--ids", type=int)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    wanted = parser.parse_args()
    if wanted.ids is not None:
        enter_user_namespace(wanted.ids)
    for capability in wanted.drop:
        drop(capability)
    for call in wanted.refuse:
        refuse(call)
    os.execvp(wanted.command[0], wanted.command)


if __name__ == "__main__":
    main()
