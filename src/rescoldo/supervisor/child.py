"""One child process: started, its output read, started again when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rescoldo.isolation.syscalls import die_with_parent

log = logging.getLogger(__name__)

CHUNK = 65536  # bytes read at once
MAX_LINE = 2000  # bytes of a line that are shown
TAIL_LINES = 20
STABLE_SECONDS = 5.0  # a child that lived this long may be started again at once
LONGEST_PAUSE = 2.0  # seconds between starts of one that does not live


def pause(deaths: int) -> float:
    """Seconds before the next start after so many early deaths in a row: 0, 0.05, 0.1, 0.2 … 2."""
    return 0.0 if deaths <= 1 else min(LONGEST_PAUSE, 0.05 * 2.0 ** min(deaths - 2, 10))


@dataclass(slots=True)
class Program:
    """How a child is started; `command` is asked anew each time."""

    name: str
    command: Callable[[], Sequence[str]]
    environment: Mapping[str, str]
    sockets: Sequence[socket.socket] = ()
    shown: Callable[[str], bool] = lambda line: True  # which lines of its output are worth showing


@dataclass(slots=True, eq=False)
class Child:
    program: Program
    process: subprocess.Popen[bytes]
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    _rest: bytes = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    @classmethod
    def start(cls, program: Program, command: Sequence[str] | None = None) -> Child:
        """Start it; its output is read and shown, whatever it writes, so that it never blocks on a pipe."""
        process = subprocess.Popen(
            list(command or program.command()),
            env={**os.environ, **program.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[sock.fileno() for sock in program.sockets],
            start_new_session=True,  # a Ctrl-C at the terminal is the supervisor's to handle, in order
            preexec_fn=_die_with_parent,
        )
        child = cls(program, process)
        loop = asyncio.get_running_loop()
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        loop.add_reader(process.stdout.fileno(), child._read)
        pidfd = os.pidfd_open(process.pid)
        loop.add_reader(pidfd, child._exited, pidfd)
        return child

    def send(self, number: int) -> None:
        if not self.ended.is_set():
            self.process.send_signal(number)

    async def stop(self, number: int, grace: float) -> None:
        """Ask it to end; kill it after `grace` seconds."""
        self.send(number)
        try:
            await asyncio.wait_for(self.ended.wait(), grace)
        except TimeoutError:
            log.warning("%s did not end within %g s and is killed", self.program.name, grace)
            self.send(signal.SIGKILL)
            await self.ended.wait()

    def _exited(self, pidfd: int) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(pidfd)
        os.close(pidfd)
        self.process.wait()
        self._read()
        assert self.process.stdout is not None
        loop.remove_reader(self.process.stdout.fileno())
        self.process.stdout.close()
        self.ended.set()

    def _read(self) -> None:
        assert self.process.stdout is not None
        try:
            chunk = os.read(self.process.stdout.fileno(), CHUNK)
        except BlockingIOError:
            return
        if not chunk:  # closed its output, or ended: _exited cleans up
            asyncio.get_running_loop().remove_reader(self.process.stdout.fileno())
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            text = line[:MAX_LINE].decode(errors="replace").rstrip()
            if text and self.program.shown(text):
                self.tail.append(text)
                print(f"{self.program.name}: {text}", file=sys.stderr, flush=True)


def describe_end(status: int) -> str:
    """What a return code of subprocess means."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _die_with_parent() -> None:
    die_with_parent(signal.SIGTERM)
