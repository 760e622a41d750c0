"""The zygote: a warmed interpreter that instances are forked from.

Run by the node as a program of its own (never forked from anything that has threads, an event loop or
secrets). It enters its mount view, imports what instances need, and forks on request. The node's end of
the socket pair closing is its end; its children do not notice (they are the node's to keep or to stop).

One message is one JSON object:
node → zygote    {"id", "launch", "uid", "gid"} with the descriptors [listener, log, status pipe]
zygote → node    {"ready": true} once; {"id", "pid"} with a pidfd, or {"id", "error"}; {"exited", "status"}
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from rescoldo.isolation.identity import become, give_up_rights, limit_resources, reset_signals
from rescoldo.isolation.interpreter import CLEAN_PATH
from rescoldo.isolation.mounts import Step, View, enter, renew_scratch
from rescoldo.isolation.syscalls import close_all_but, set_process_name
from rescoldo.model.instance import Launch
from rescoldo.model.names import split_id

MAX_MESSAGE = 2**20  # bytes of one request, most of it the function's environment
_DESCRIPTORS = 3
_OPEN_FILES = 4096  # descriptors an instance may hold, besides one for each request at once

Run = Callable[[Launch, socket.socket, int], int]


@dataclass(frozen=True, slots=True)
class Nest:
    """What every instance of this zygote has in common."""

    control: socket.socket
    bundles: str  # folder of the unpacked bundles
    steps: list[Step]  # of the mount view; empty without privileges
    run: Run  # the instance's program
    null: int  # /dev/null, open


def main(arguments: list[str]) -> int:
    """Run a zygote; `arguments[0]` is a JSON object: control (descriptor), bundles, view or null, run."""
    order = json.loads(arguments[0])
    control = socket.socket(fileno=order["control"])
    set_process_name("rescoldo-zyg")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the node decides
    steps = enter(View.from_json(order["view"])) if order["view"] else []
    nest = Nest(control, order["bundles"], steps, _preload(order["run"]), os.open(os.devnull, os.O_RDWR))
    os.chdir("/")
    gc.collect()
    gc.disable()  # a collection here would touch, and so copy, pages that children share
    gc.freeze()
    control.send(b'{"ready": true}')
    with contextlib.suppress(ConnectionError):
        _serve(nest)
    return 0


def _preload(run: str) -> Run:
    """Import `module:function`, and what its module names as commonly needed."""
    name, _, attribute = run.partition(":")
    module = importlib.import_module(name)
    if hasattr(module, "preload"):
        module.preload()
    function: Run = getattr(module, attribute)
    return function


def _serve(nest: Nest) -> None:
    """Fork on request and report ends, until the node's end is closed."""
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    poll.register(nest.control, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if wake_read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake_read, 4096)
            _report_ends(nest.control)
        if nest.control.fileno() in ready:
            message, descriptors = _receive(nest.control)
            if not message:
                return
            _answer(nest, json.loads(message), descriptors)


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    message, descriptors, _, _ = socket.recv_fds(control, MAX_MESSAGE, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    return message, descriptors


def _report_ends(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        control.send(json.dumps({"exited": pid, "status": status}).encode())


def _answer(nest: Nest, order: dict[str, Any], descriptors: list[int]) -> None:
    try:
        pid = os.fork()
    except OSError as error:
        nest.control.send(json.dumps({"id": order["id"], "error": f"cannot fork: {error}"}).encode())
        return
    if pid == 0:
        _become_instance(nest, order, descriptors)
    # A pidfd taken by the parent cannot mean another process: nobody but us reaps this child.
    pidfd = os.pidfd_open(pid)
    reply = json.dumps({"id": order["id"], "pid": pid}).encode()
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pidfd]))
    try:
        nest.control.sendmsg([reply], [rights])
    finally:
        for descriptor in (pidfd, *descriptors):
            os.close(descriptor)


def _become_instance(nest: Nest, order: dict[str, Any], descriptors: Sequence[int]) -> None:
    """The child's whole life; never returns."""
    code = 1
    try:
        listener, log, status = descriptors
        os.setsid()
        os.dup2(nest.null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        # New ones: those of the zygote remember whether what they wrote to was a file or a terminal.
        sys.stdout, sys.stderr = _stream(1), _stream(2)
        reset_signals()
        close_all_but({listener, status})
        launch = Launch.from_json(order["launch"])
        code = _run(nest, launch, order["uid"], order["gid"], listener, status)
    except BaseException as error:
        # Nothing may fly out of the child: above is the zygote's loop.
        with contextlib.suppress(BaseException):
            print(f"the instance cannot be set up: {error!r}", file=sys.stderr)
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _stream(descriptor: int) -> TextIO:
    return open(descriptor, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _run(nest: Nest, launch: Launch, uid: int | None, gid: int, listener: int, status: int) -> int:
    set_process_name(split_id(launch.function)[0])
    os.umask(0o077)
    limit_resources(_OPEN_FILES + launch.concurrency)
    if nest.steps:
        renew_scratch(nest.steps)
    if uid is not None:
        become(uid, gid)
    give_up_rights()
    _set_environment(launch)
    os.chdir(f"{nest.bundles}/{launch.digest}")
    # random reseeds itself after a fork when it was imported before; said again since all depends on it.
    random.seed()
    gc.enable()
    return nest.run(launch, socket.socket(fileno=listener), status)


def _set_environment(launch: Launch) -> None:
    name, namespace = split_id(launch.function)
    os.environ.clear()
    os.environ.update(
        {
            "PATH": CLEAN_PATH,
            "LANG": "C.UTF-8",
            "HOME": "/tmp",
            "TMPDIR": "/tmp",
            **launch.env,
            "OPENFAAS_NAME": name,
            "OPENFAAS_NAMESPACE": namespace,
        }
    )
