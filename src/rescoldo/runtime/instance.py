"""The process of one instance, from the zygote's fork to its exit code.

The zygote imports everything that a wake needs here, at the top, before it forks: a child shares those pages and
starts in about a millisecond. Importing this module starts no thread and makes no event loop.

Not supported, by design: a SIGTERM handler of the function's own (SIGTERM drains the server), and atexit functions
(the process ends with os._exit).
"""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any

import uvloop

from rescoldo.model.errors import StartFailed
from rescoldo.model.instance import Launch
from rescoldo.model.names import InstanceId, function_id
from rescoldo.runtime.handlers import REHEARSED, Handler, load_handler, unload_handler
from rescoldo.runtime.http.connection import Connection
from rescoldo.runtime.journal import JOURNAL, traceback_text
from rescoldo.runtime.leftovers import kill_children
from rescoldo.runtime.server import Server
from rescoldo.runtime.spare import PRACTICE, REHEARSAL

PRELOAD = (
    "base64", "bisect", "collections", "contextlib", "contextvars", "copy", "dataclasses", "datetime", "decimal",
    "email.message", "enum", "functools", "glob", "gzip", "hashlib", "heapq", "hmac", "html", "http.client",
    "http.cookies", "inspect", "io", "itertools", "json", "logging", "math", "mimetypes", "operator", "os", "pathlib",
    "queue", "random", "re", "secrets", "select", "shutil", "signal", "socket", "ssl", "string", "struct",
    "subprocess", "tempfile", "textwrap", "threading", "time", "traceback", "types", "typing", "urllib.error",
    "urllib.parse", "urllib.request", "uuid", "warnings", "weakref", "zlib", "zoneinfo",
)  # fmt: skip
"""Modules that handlers commonly import; the zygote imports them, with `preload`, before it forks.

Each costs every fork a little (a MB of them about 0.1 ms), so functions import rare ones themselves.
"""
_loop: uvloop.Loop | None = None  # kept from the rehearsal


def preload() -> None:
    """Import PRELOAD, set up the streams and practise, once for all forks.

    Skips a module that this Python was built without. The forks share the streams' buffers and the code as the
    interpreter has specialised it after a few runs; otherwise each fork would repeat that work and copy the pages for
    it.
    """
    _print_promptly()
    for name in PRELOAD:
        with suppress(ImportError):
            importlib.import_module(name)
    for _ in range(PRACTICE):
        _practise()


def _practise() -> None:
    """Load a handler and serve a request in memory, without a thread and without uvloop: their process-wide state does
    not survive the closing of all descriptors in a fork."""
    loop = asyncio.SelectorEventLoop()
    try:
        load_handler(REHEARSAL)
        loop.run_until_complete(_rehearsal(loop, REHEARSED))
    finally:
        unload_handler(REHEARSAL)
        loop.close()


def rehearse() -> None:
    """Load a handler and serve requests in memory; keep the loop for `run`.

    A spare does this while it waits. It then owns copies of the zygote's pages that a wake writes to, and the wake
    saves the copying (about 2 ms).
    """
    global _loop
    _loop = loop = uvloop.new_event_loop()
    try:
        for handler in (load_handler(REHEARSAL), REHEARSED):
            loop.run_until_complete(_rehearsal(loop, handler))
    finally:
        unload_handler(REHEARSAL)
        asyncio.set_event_loop(None)


async def _rehearsal(loop: asyncio.AbstractEventLoop, handler: Handler) -> None:
    # No deadline: the watchdog's alarm would outlive the rehearsal and end the instance.
    launch = Launch(InstanceId("rehearsal"), function_id("rehearsal"), "", exec_timeout=0.0)
    server = Server(launch, handler, "/", loop)
    client, served = socket.socketpair()
    client.setblocking(False)
    transport, _ = await loop.connect_accepted_socket(partial(Connection, server), served)
    await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: rehearsal\r\n\r\n")
    await loop.sock_recv(client, 4096)
    transport.close()
    client.close()
    server.threads.end()  # no thread may exist when the process changes its user


def run(launch: Launch, listener: socket.socket, status: int) -> int:
    """Serve the bundle in the current directory on `listener`; return the process's exit code.

    `status` is a pipe. It gets one JSON line, then it is closed: {"ready": true, "began", "loaded"} once the event
    loop serves, or {"error": "one line"} if the handler cannot be imported. `began` and `loaded` are the times
    (seconds on the monotonic clock) of this call and of the end of the import.

    Exit codes: 0 drained after SIGTERM, 1 never ready or the function ended the loop, 124 retired because a handler
    hung past its deadline.
    """
    began = time.monotonic()
    report = _Report(status)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until there are requests to drain
    _print_promptly()
    JOURNAL.open()
    threading.excepthook = _thread_failed
    loop = _loop or uvloop.new_event_loop()  # before the import: module-level code may ask for it
    asyncio.set_event_loop(loop)
    loop.set_exception_handler(_loop_failed)
    root = os.getcwd()  # noqa: PTH109 - pathlib costs a fresh fork 60 page faults
    try:
        handler = load_handler(root)
    except StartFailed as error:
        JOURNAL.say(f"rescoldo: {error.message}\n")
        report.write({"error": error.message})
        return 1
    ready: dict[str, object] = {"ready": True, "began": began, "loaded": time.monotonic()}
    listener.setblocking(False)
    server = Server(launch, handler, root, loop)
    try:
        return loop.run_until_complete(server.serve(listener, lambda: report.write(ready)))
    except BaseException as error:  # a background task of the function called sys.exit()
        JOURNAL.say(traceback_text(error))
        report.write({"error": "the function ended its event loop"})
        return 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(BaseException):  # the function may have replaced it by any object
                stream.flush()
        kill_children()  # without a PID namespace nothing else ends children in sessions of their own


def _print_promptly() -> None:
    """Flush printed lines to the log at once, and escape characters that cannot be encoded."""
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue  # the function has replaced it
        if not stream.line_buffering or stream.errors != "backslashreplace":
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    """Log as threading does, but to the journal: another call may have redirected sys.stderr."""
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        name = args.thread.name if args.thread is not None else "?"
        JOURNAL.say(f"Exception in thread {name}:\n{traceback_text(args.exc_value)}")


def _loop_failed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log errors of the loop to the journal, unless the function configured logging for asyncio."""
    if logging.getLogger("asyncio").hasHandlers():
        loop.default_exception_handler(context)
        return
    error = context.get("exception")
    trace = "" if error is None else traceback_text(error)
    JOURNAL.say(f"{context.get('message') or 'Unhandled exception in event loop'}\n{trace}")


class _Report:
    """The status pipe: takes one message; child processes of the handler do not keep it open."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd
        os.set_inheritable(fd, False)
        os.register_at_fork(after_in_child=self._close)

    def write(self, message: dict[str, object]) -> None:
        """Write `message` and close the pipe. Does nothing the second time."""
        if self._fd >= 0:
            with suppress(OSError):  # the node is gone; this instance may live on
                os.write(self._fd, json.dumps(message).encode() + b"\n")
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
