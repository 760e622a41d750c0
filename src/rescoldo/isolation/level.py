"""The isolation level of this machine: what docs/security.md promises of instances here."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from rescoldo.isolation.mounts import View, enter
from rescoldo.isolation.sandbox import FullSandbox, Tenant
from rescoldo.model.ids import ARE_MAPPED, BUNDLE_GIDS, INSTANCE_UIDS, LEAST

Level = Literal["full", "unprivileged"]

_UID, _GID = INSTANCE_UIDS[-1], BUNDLE_GIDS[-1]


def level() -> Level:
    """Return the isolation level of instances on this machine; see docs/security.md.

    full: each instance has a uid, a root, processes and limits of its own. Needs root that may make namespaces, and
    Linux 5.12. unprivileged: all instances run as the user who runs the platform, confined by what the kernel grants
    to every user.
    """
    return "unprivileged" if obstacle() else "full"


@functools.cache
def obstacle() -> str:
    """Return why the level is not `full`: the call that failed, and how. Empty if it is.

    What root may do depends on capabilities, on profiles of seccomp and AppArmor, on user namespaces and on the
    kernel's version. So the first call has a child make a sandbox and become an instance in it, with the code that the
    zygote and its forks use.
    """
    if os.geteuid() != 0:
        return "the user is not root"
    if not ARE_MAPPED:
        return f"the user namespace maps fewer than {LEAST:,} ids for instances"
    return _failure_of(_make_instance, os.fork)


def _make_instance() -> None:
    """Do what a zygote, its spare and its instance do. Raises OSError."""
    sandbox = FullSandbox(enter(View()), cgroups=None)
    if failure := _failure_of(lambda: _become_instance(sandbox), sandbox.fork):
        raise OSError(failure)


def _become_instance(sandbox: FullSandbox) -> None:
    sandbox.prepare("")
    scratch = Path("/tmp")
    with _named(f"chown to uid {_UID}"):
        os.chown(scratch, _UID, _GID)
    with _named(f"chmod and use of a folder of uid {_UID}"):
        scratch.chmod(0o700)
        (scratch / "probe").mkdir()
    with _named(f"become uid {_UID}"):
        sandbox.finish(Tenant(_UID, _GID, bundle="/", layer="", scratch="/tmp", secrets={}))


@contextmanager
def _named(call: str) -> Iterator[None]:
    """Put the name of a call before the text of its error; the calls of isolation/syscalls.py do so themselves."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{call}: {error.strerror}") from error


def _failure_of(work: Callable[[], None], fork: Callable[[], int]) -> str:
    """Do `work` in a child made by `fork`; return the text of its OSError, empty if there was none."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = fork()
    if child == 0:
        _report(work, writer)
    os.close(writer)
    with os.fdopen(reader) as report:
        failure = report.read()
    try:
        os.kill(child, 0)  # a process that has ended still has its uid: the platform must be able to end an instance
    except PermissionError as error:
        failure = failure or f"kill: {error.strerror}"
    _, status = os.waitpid(child, 0)
    return failure or ("" if status == 0 else f"a process ended with status {status}")


def _report(work: Callable[[], None], writer: int) -> None:
    """Do `work`, write the text of its OSError, and exit. Never returns."""
    code = 1
    try:
        work()
        code = 0
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        os.write(writer, f"{error.strerror or error}{place}".encode())
    finally:
        os._exit(code)
