"""One child process: started, its output read, started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rescoldo.model.text import one_line
from rescoldo.policy.budget import Budget
from rescoldo.supervisor.platformlog import say
from rescoldo.supervisor.probes import Probe
from rescoldo.tasks import set_within

log = logging.getLogger(__name__)

CHUNK = 65536  # bytes read at once
MAX_LINE = 2000  # bytes of a line that are shown
TAIL_LINES = 20
RATE = 64 * 2**10  # bytes a second that are shown of a child, and a line for each 128 of them
DROP_PAUSE = 0.005  # seconds between two chunks of a child that says more


@dataclass(slots=True)
class Part:
    """How a child is started; `command` is asked anew each time."""

    name: str
    command: Callable[[], Sequence[str]]
    environment: Mapping[str, str]
    descriptors: Sequence[int] = ()  # handed on under the same numbers
    shown: Callable[[str], bool] = lambda line: True  # which lines of its output are worth showing
    probe: Probe | None = None  # how it is asked whether it lives
    waits: bool = True  # for its output to be read; one that must not wait loses what its pipe cannot hold


@dataclass(slots=True, eq=False)
class Child:
    """One process of a part, from its start, or its adoption, to its end."""

    part: Part
    pid: int
    pidfd: int
    output: int  # the end of its pipe that is read here
    process: subprocess.Popen[bytes] | None  # None: another supervisor's child, adopted
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    status: int | None = None  # once it has ended, as subprocess has it; None: not known
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    on_end: Callable[[Child], None] = lambda child: None
    _rest: bytes = b""
    _budget: Budget = field(default_factory=lambda: Budget(time.monotonic(), RATE))
    _left_out: int = 0  # lines, since the last one that was shown
    _pause: asyncio.TimerHandle | None = None

    @classmethod
    def start(cls, part: Part, command: Sequence[str] | None = None) -> Child:
        """Start it; its output is read and shown, whatever it writes, so that it never blocks on a pipe.

        Raises OSError.
        """
        output, theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(output, False)
        os.set_blocking(theirs, part.waits)
        try:
            process = subprocess.Popen(
                list(command or part.command()),
                env={**os.environ, **part.environment},
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                pass_fds=part.descriptors,
                start_new_session=True,  # signals of a terminal are not for it
            )
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(theirs)
        return cls(part, process.pid, os.pidfd_open(process.pid), output, process)._watched()

    @classmethod
    def adopt(cls, part: Part, pid: int, pidfd: int, output: int) -> Child:
        """Go on with one that another supervisor started; the descriptors are this child's to close."""
        return cls(part, pid, pidfd, output, None)._watched()

    def _watched(self) -> Child:
        loop = asyncio.get_running_loop()
        loop.add_reader(self.output, self._readable)
        loop.add_reader(self.pidfd, self._exited)
        return self

    def send(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    async def kill(self) -> None:
        """SIGKILL it and wait for its end."""
        self.send(signal.SIGKILL)
        await self.ended.wait()

    async def stop(self, number: int, grace: float) -> None:
        """Ask it to end; kill it after `grace` seconds."""
        self.send(number)
        if not await set_within(self.ended, grace):
            log.warning("%s did not end within %g s; killing it", self.part.name, grace)
            await self.kill()

    def _exited(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.pidfd)
        if self.process is not None:  # others are reaped by their new parent
            self.status = self.process.wait()
        if self._pause is not None:
            self._pause.cancel()
        self._read()
        loop.remove_reader(self.output)
        self._tell_left_out()
        os.close(self.output)
        os.close(self.pidfd)
        self.ended.set()
        self.on_end(self)

    def _readable(self) -> None:
        """Read a chunk; a child that says more than is shown is read more slowly, so that its supervisor goes on."""
        if self._read():
            loop = asyncio.get_running_loop()
            loop.remove_reader(self.output)
            self._pause = loop.call_later(DROP_PAUSE, loop.add_reader, self.output, self._readable)

    def _read(self) -> bool:
        """Show what a chunk holds; return whether that was not all of it."""
        try:
            chunk = os.read(self.output, CHUNK)
        except BlockingIOError:
            return False
        if not chunk:  # closed its output, or ended: _exited cleans up
            asyncio.get_running_loop().remove_reader(self.output)
        kept = self._budget.take(chunk, time.monotonic())
        *lines, self._rest = (self._rest + chunk[:kept]).split(b"\n")
        dropped = chunk[kept:]
        if self._rest and (dropped or len(self._rest) > MAX_LINE):
            lines.append(self._rest)
            self._rest = b""
        if lines and kept:
            self._tell_left_out()
        for line in lines:
            if text := self._text(line):
                self.tail.append(text)
                say(f"{self.part.name}: {text}")
        if dropped:
            self._left_out += dropped.count(b"\n")
            *last, self._rest = dropped.rsplit(b"\n", TAIL_LINES)
            self.tail.extend(filter(None, map(self._text, last)))  # its last words count, when it ends
        return bool(dropped)

    def _text(self, line: bytes) -> str:
        """What is shown of a line; empty: nothing."""
        text = one_line(line[:MAX_LINE].decode(errors="replace").rstrip())
        return text if self.part.shown(text) else ""

    def _tell_left_out(self) -> None:
        if self._left_out:
            say(f"{self.part.name}: … {self._left_out} lines left out: more than {RATE // 1024} KiB/s")
        self._left_out = 0


def describe_end(status: int | None) -> str:
    """What a return code of subprocess means; None: not known."""
    if status is None:
        return "for an unknown reason"
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
