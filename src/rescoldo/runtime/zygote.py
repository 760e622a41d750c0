"""The zygote: a warmed interpreter that instances are forked from.

Run by the node as a program of its own (never forked from anything that has threads, an event loop or
secrets). It enters its view of the file system, imports what instances need, and forks on request; a few forks
are kept in advance, each in a sandbox of its own. The node's end of the socket pair closing is its end, and that of its
spares; its instances do not notice (they are the node's to keep or to stop).

One message is one JSON object:
node → zygote    {"id", "launch", "uid", "gid", "scratch"} with the descriptors
                 [listener, log, status pipe, one for each secret of the launch]; a program that binds its own socket
                 gets the folder for it (Berth.open) or /dev/null instead of a listener
zygote → node    {"ready": true} once; {"id", "pid", "sandbox"} with a pidfd, or {"id", "error"};
                 {"exited", "status"}
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TextIO

from rescoldo.isolation.cgroups import Base, Makers
from rescoldo.isolation.identity import limit_resources, reset_signals
from rescoldo.isolation.interpreter import CLEAN_PATH
from rescoldo.isolation.mounts import View, enter
from rescoldo.isolation.sandbox import FullSandbox, Sandbox, Tenant, UnprivilegedSandbox
from rescoldo.isolation.syscalls import close_all_but, die_with_parent, set_process_name
from rescoldo.model.instance import Launch
from rescoldo.model.names import split_id
from rescoldo.model.program import UNIX
from rescoldo.runtime.program import execute

MAX_MESSAGE = 2**20  # bytes of one request, most of it the function's environment
SPARES = 4  # forks kept ready, so that neither fork nor mounts are on the way of a wake
SPARE_NICE = 10  # while it sets itself up: wakes and calls go first
REFILL_AFTER_MS = 3  # quiet milliseconds before a spare is made: a start under way goes first
MOST_SECRETS = 100  # of one function; the kernel passes 253 descriptors in a message
_DESCRIPTORS = 3 + MOST_SECRETS
_OPEN_FILES = 4096  # descriptors an instance may hold, besides one for each request at once

Run = Callable[[Launch, socket.socket, int], int]


@dataclass(frozen=True, slots=True)
class Nest:
    """What every instance of this zygote has in common."""

    control: socket.socket
    bundles: str  # folder of the unpacked bundles
    sandbox: Sandbox
    run: Run  # the instance's program
    rehearse: Callable[[], None]  # what a spare does in advance
    null: int  # /dev/null, open
    privileged: bool
    unused: dict[int, str] = field(default_factory=dict)  # sandboxes of spares, by pid, until they are handed out


@dataclass(frozen=True, slots=True)
class Spare:
    """A fork that is set up and waits to be told which instance it is."""

    pid: int
    channel: socket.socket


def main(arguments: list[str]) -> int:
    """Run a zygote; `arguments[0]` is a JSON object: control (descriptor), bundles, view or null, cgroups or
    null, run."""
    order = json.loads(arguments[0])
    control = socket.socket(fileno=order["control"])
    set_process_name("rescoldo-zyg")
    die_with_parent(signal.SIGKILL)  # it would end by itself, unless it is stopped
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the node decides
    sandbox = _sandbox(order)
    run, rehearse = _preload(order["run"])
    null = os.open(os.devnull, os.O_RDWR)
    nest = Nest(control, order["bundles"], sandbox, run, rehearse, null, os.geteuid() == 0)
    os.chdir("/")
    gc.collect()
    gc.disable()  # a collection here would touch, and so copy, pages that children share
    gc.freeze()
    control.send(b'{"ready": true}')
    with contextlib.suppress(ConnectionError):
        _serve(nest)
    return 0


def _sandbox(order: dict[str, Any]) -> Sandbox:
    if order["view"] is None:
        return UnprivilegedSandbox()
    # The groups are opened first: in the view there are none.
    cgroups = Makers(Base(**order["cgroups"])) if order["cgroups"] else None
    return FullSandbox(enter(View.from_json(order["view"])), cgroups)


def _preload(run: str) -> tuple[Run, Callable[[], None]]:
    """Import `module:function`, and what its module names as commonly needed."""
    name, _, attribute = run.partition(":")
    module = importlib.import_module(name)
    if hasattr(module, "preload"):
        module.preload()
    return getattr(module, attribute), getattr(module, "rehearse", lambda: None)


def _serve(nest: Nest) -> None:
    """Hand out spares or fork on request, and report ends, until the node's end is closed."""
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    poll.register(nest.control, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    spares: deque[Spare] = deque()
    while True:
        ready = {descriptor for descriptor, _ in poll.poll(REFILL_AFTER_MS if len(spares) < SPARES else None)}
        if not ready:
            spares.append(_fork_spare(nest))
        if wake_read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake_read, 4096)
            _report_ends(nest, spares)
        if nest.control.fileno() in ready:
            message, descriptors = _receive(nest.control)
            if not message:
                return
            _answer(nest, message, descriptors, spares)


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    message, descriptors, _, _ = socket.recv_fds(control, MAX_MESSAGE, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    return message, descriptors


def _report_ends(nest: Nest, spares: deque[Spare]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        for spare in [spare for spare in spares if spare.pid == pid]:
            spares.remove(spare)
            spare.channel.close()
        if pid in nest.unused:
            nest.sandbox.discard(nest.unused.pop(pid))
        nest.control.send(json.dumps({"exited": pid, "status": status}).encode())


def _answer(nest: Nest, message: bytes, descriptors: list[int], spares: deque[Spare]) -> None:
    order = json.loads(message)
    try:
        ready = None if _needs_folder(order) else _use_spare(nest, spares, order, message, descriptors)
        pid, sandbox = ready or _start(nest, order, descriptors)
    except OSError as error:
        nest.control.send(json.dumps({"id": order["id"], "error": f"cannot fork: {error}"}).encode())
        return
    # A pidfd taken by the parent cannot mean another process: nobody but us reaps this child.
    pidfd = os.pidfd_open(pid)
    reply = json.dumps({"id": order["id"], "pid": pid, "sandbox": sandbox}).encode()
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pidfd]))
    try:
        nest.control.sendmsg([reply], [rights])
    finally:
        for descriptor in (pidfd, *descriptors):
            os.close(descriptor)


def _use_spare(
    nest: Nest, spares: deque[Spare], order: dict[str, Any], message: bytes, descriptors: list[int]
) -> tuple[int, str] | None:
    """Make the oldest spare the instance; return its pid and sandbox, or None where there is no spare."""
    while spares:
        spare = spares.popleft()
        with spare.channel:
            try:
                _limit(nest, nest.unused[spare.pid], order)
                socket.send_fds(spare.channel, [message], descriptors)
            except OSError:  # it has ended, or the message is larger than its socket takes
                continue
            if nest.privileged:
                os.setpriority(os.PRIO_PROCESS, spare.pid, 0)
            return spare.pid, nest.unused.pop(spare.pid)
    return None


def _start(nest: Nest, order: dict[str, Any], descriptors: list[int]) -> tuple[int, str]:
    """The same without a spare, from the beginning."""
    sandbox = nest.sandbox.new_name()
    try:
        _limit(nest, sandbox, order)
        return _fork(nest, lambda: _become_instance(nest, sandbox, order, descriptors)), sandbox
    except OSError:
        nest.sandbox.discard(sandbox)
        raise


def _limit(nest: Nest, sandbox: str, order: dict[str, Any]) -> None:
    launch = order["launch"]
    nest.sandbox.limit(sandbox, launch["memory_limit"], launch["cpu_limit"])


def _fork_spare(nest: Nest) -> Spare:
    sandbox = nest.sandbox.new_name()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        pid = _fork(nest, lambda: _be_spare(nest, sandbox, theirs))
    nest.unused[pid] = sandbox
    return Spare(pid, ours)


def _fork(nest: Nest, live: Callable[[], int]) -> int:
    """Return the pid of a fork in which `live` runs and then ends it with the code it returns."""
    pid = nest.sandbox.fork()
    if pid:
        return pid
    code = 1
    try:
        code = live()
    except BaseException as error:
        # Nothing may fly out of the child: above is the zygote's loop.
        with contextlib.suppress(BaseException):
            print(f"the instance cannot be set up: {error!r}", file=sys.stderr)
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _be_spare(nest: Nest, sandbox: str, channel: socket.socket) -> int:
    if nest.privileged:  # others could not take it back
        os.setpriority(os.PRIO_PROCESS, 0, SPARE_NICE)
    _set_up(nest, sandbox, {channel.fileno()})
    set_process_name("rescoldo-spare")
    nest.rehearse()
    message, descriptors = _receive(channel)
    if not message:
        return 0  # the zygote has ended
    channel.close()
    return _live(nest, json.loads(message), descriptors)


def _become_instance(nest: Nest, sandbox: str, order: dict[str, Any], descriptors: list[int]) -> int:
    _set_up(nest, sandbox, set(descriptors), descriptors[0] if _needs_folder(order) else None)
    return _live(nest, order, descriptors)


def _needs_folder(order: dict[str, Any]) -> bool:
    """Whether it is a program that binds a Unix socket: a spare may mount nothing any more."""
    return bool(order["launch"]["upstream"] == UNIX)


def _set_up(nest: Nest, sandbox: str, keep: set[int], socket_folder: int | None = None) -> None:
    """What does not depend on which instance it is."""
    os.setsid()
    os.dup2(nest.null, 0)
    reset_signals()
    nest.sandbox.prepare(sandbox, socket_folder)
    close_all_but(keep)
    os.umask(0o077)


def _live(nest: Nest, order: dict[str, Any], descriptors: list[int]) -> int:
    """Become the instance that `order` asks for, and be it to its end."""
    listener, log, status, *secrets = descriptors
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    # New ones: those of the zygote remember whether what they wrote to was a file or a terminal.
    sys.stdout, sys.stderr = _stream(1), _stream(2)
    launch = Launch.from_json(order["launch"])
    set_process_name(split_id(launch.function)[0])
    limit_resources(_OPEN_FILES + launch.concurrency)
    bundle = f"{nest.bundles}/{launch.digest}"
    named = dict(zip(launch.secrets, secrets, strict=True))
    place = nest.sandbox.finish(Tenant(order["uid"], order["gid"], bundle, order["scratch"], named))
    _set_environment(launch, order["scratch"], place)
    os.chdir(bundle)
    if launch.command:
        return execute(launch, listener, status)
    # random reseeds itself after a fork when it was imported before; said again since all depends on it.
    random.seed()
    gc.enable()
    return nest.run(launch, socket.socket(fileno=listener), status)


def _stream(descriptor: int) -> TextIO:
    return open(descriptor, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _set_environment(launch: Launch, scratch: str, secrets: str) -> None:
    name, namespace = split_id(launch.function)
    os.environ.clear()
    os.environ.update(
        {
            "PATH": CLEAN_PATH,
            "LANG": "C.UTF-8",
            "HOME": scratch,
            "TMPDIR": scratch,
            "secret_mount_path": secrets,
            **launch.env,
            "OPENFAAS_NAME": name,
            "OPENFAAS_NAMESPACE": namespace,
        }
    )
