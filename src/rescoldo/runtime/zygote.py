"""The zygote: a warmed interpreter that forks instances.

The node runs it as a program of its own (kinds/zygote.py), never forked from a process with threads, an event loop or
secrets. It enters its view of the file system, imports the modules that instances need, and forks on request;
runtime/spare.py continues in the fork. The zygote ends when the node's end of the socket pair closes. Its forks do not
notice; the node keeps or stops them.

One message is one JSON object:
node → zygote    {"id", "urgent"}; for a program that binds a Unix socket, with the folder for it (ProgramSocket.open)
zygote → node    {"ready": true} once; {"id", "pid", "sandbox"} with the descriptors [pidfd, the node's end of the
                 fork's channel], or {"id", "error"}; {"exited", "status"}
"""

from __future__ import annotations

import array
import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from rescoldo.isolation.cgroups import Base, Makers
from rescoldo.isolation.hosts import hosts_with
from rescoldo.isolation.identity import priority_can_rise
from rescoldo.isolation.mounts import View, cover, enter
from rescoldo.isolation.sandbox import FullSandbox, Sandbox, UnprivilegedSandbox
from rescoldo.isolation.syscalls import die_with_parent, reap, set_process_name
from rescoldo.runtime.hiding import hide
from rescoldo.runtime.journal import JOURNAL
from rescoldo.runtime.spare import PRACTICE, REHEARSAL, Nest, be_spare, rehearse_order
from rescoldo.runtime.starter import Starters

_REQUEST = 4096  # bytes; requests are far shorter


@dataclass(frozen=True, slots=True)
class Fork:
    """A child as the node knows it."""

    pid: int
    sandbox: str
    channel: socket.socket


def run(arguments: list[str], bind: Callable[[str], Starters]) -> int:
    """Run a zygote; `bind` imports and practises what the forks of the zygote with this name run.

    `arguments[0]` is a JSON object: control (descriptor), bundles (their folder), read (further folders that the
    zygote needs), needed (those of them that functions need), full (whether the level is full), asks (whether instances
    ask for their forks), cgroups or null, names (host names by address, for /etc/hosts), variables (of functions'
    environment), nice (by how much instances' priority is lower than the platform's), zygote (its name), process (its
    process name), path (folders from which the platform's packages are imported) and hidden (folders that contain
    them).
    """
    order = json.loads(arguments[0])
    control = socket.socket(fileno=order["control"])
    set_process_name(order["process"])
    die_with_parent(signal.SIGKILL)  # it ends by itself when the node does, unless it is stopped (SIGSTOP)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the node decides
    sandbox = _sandbox(order)
    starters = bind(order["zygote"])
    for _ in range(PRACTICE):
        rehearse_order()
    _leave_platform(order)
    null = os.open(os.devnull, os.O_RDWR)
    priority = os.getpriority(os.PRIO_PROCESS, 0)
    nest = Nest(sandbox, starters, null, priority, order["nice"], priority_can_rise(), order["variables"])
    os.chdir("/")
    gc.collect()
    gc.disable()  # a collection here would write to, and so copy, pages that forks share
    gc.freeze()  # an instance collects again, without the zygote's objects
    control.send(b'{"ready": true}')
    with contextlib.suppress(ConnectionError):
        _serve(nest, control)
    return 0


def _sandbox(order: dict[str, Any]) -> Sandbox:
    if not order["full"]:
        return UnprivilegedSandbox(order["needed"], asks=order["asks"])
    # The groups are opened first, because the view does not show them.
    cgroups = Makers(Base(**order["cgroups"])) if order["cgroups"] else None
    hosts = next((hosts_with(address, names) for address, names in order["names"].items() if names), "")
    return FullSandbox(enter(View(read=(*order["read"], order["bundles"])), hosts), cgroups)


def _leave_platform(order: dict[str, Any]) -> None:
    """Hide the platform's packages from functions' code, in this process and its forks."""
    hide(order["path"])
    if order["full"]:
        cover(order["hidden"], keep=[order["bundles"], *order["needed"], REHEARSAL])


def _serve(nest: Nest, control: socket.socket) -> None:
    """Fork on request and report ended forks, until the node closes its end."""
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if wake_read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake_read, 4096)
            _report_ends(control)
        if control.fileno() in ready:
            message, folders, _, _ = socket.recv_fds(control, _REQUEST, 1, socket.MSG_CMSG_CLOEXEC)
            if not message:
                return
            _answer(nest, control, json.loads(message), folders)


def _report_ends(control: socket.socket) -> None:
    for pid, status in reap():
        control.send(json.dumps({"exited": pid, "status": status}).encode())


def _answer(nest: Nest, control: socket.socket, request: dict[str, Any], folders: list[int]) -> None:
    try:
        fork = _fork(nest, urgent=request["urgent"], folder=folders[0] if folders else None)
    except OSError as error:
        control.send(json.dumps({"id": request["id"], "error": f"cannot fork: {error}"}).encode())
        return
    finally:
        for descriptor in folders:
            os.close(descriptor)
    # The parent's pidfd cannot mean another process, because only this process reaps the child.
    pidfd = os.pidfd_open(fork.pid)
    reply = json.dumps({"id": request["id"], "pid": fork.pid, "sandbox": fork.sandbox}).encode()
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pidfd, fork.channel.fileno()]))
    try:
        control.sendmsg([reply], [rights])
    finally:
        os.close(pidfd)
        fork.channel.close()


def _fork(nest: Nest, *, urgent: bool, folder: int | None) -> Fork:
    name = nest.sandbox.new_name()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        try:
            pid = nest.sandbox.fork()
        except OSError:
            nest.sandbox.discard(name)
            ours.close()
            raise
        if pid:
            return Fork(pid, name, ours)
        return _live(lambda: be_spare(nest, name, theirs, urgent=urgent, folder=folder))


def _live(life: Callable[[], int]) -> NoReturn:
    """Run `life` in the child and exit with the code that it returns. Never returns."""
    code = 1
    try:
        code = life()
    except BaseException as error:
        # No exception may leave the child: the zygote's loop is further up the stack.
        with contextlib.suppress(BaseException):
            JOURNAL.say(f"the instance cannot be set up: {error!r}\n")
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
