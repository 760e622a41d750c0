"""One child process: starts or adopts it, reads its output, sends it signals and reports its end."""

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
MAX_LINE = 2000  # bytes shown of one line
TAIL_LINES = 20
RATE = 64 * 2**10  # bytes a second shown of a child, and one line for each 128 of them
DROP_PAUSE = 0.005  # seconds between two reads of a child that exceeds RATE


@dataclass(slots=True)
class Part:
    """Recipe for starting a child; `command` is called anew for each start."""

    name: str
    command: Callable[[], Sequence[str]]
    environment: Mapping[str, str]
    descriptors: Sequence[int] = ()  # inherited under the same numbers
    shown: Callable[[str], bool] = lambda line: True  # whether to show a line of its output
    probe: Probe | None = None  # its health check
    waits: bool = True  # False: its writes never block, and output beyond what the pipe holds is lost


@dataclass(slots=True, eq=False)
class Child:
    """One process of a part, from its start or adoption to its end."""

    part: Part
    pid: int
    pidfd: int  # unlike the pid, it never comes to mean another process
    output: int  # the read end of its pipe
    process: subprocess.Popen[bytes] | None  # None: adopted from an earlier supervisor
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    status: int | None = None  # return code after its end, as in subprocess; None: unknown
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    on_end: Callable[[Child], None] = lambda child: None
    _rest: bytes = b""
    _budget: Budget = field(default_factory=lambda: Budget(time.monotonic(), RATE))
    _left_out: int = 0  # lines left out since the last one shown
    _pause: asyncio.TimerHandle | None = None

    @classmethod
    def start(cls, part: Part, command: Sequence[str] | None = None) -> Child:
        """Start a process. The supervisor reads everything that it writes, so that it never blocks on a full pipe.

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
                start_new_session=True,  # keeps a terminal's signals away from it
            )
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(theirs)
        return cls(part, process.pid, os.pidfd_open(process.pid), output, process)._watched()

    @classmethod
    def adopt(cls, part: Part, pid: int, pidfd: int, output: int) -> Child:
        """Take over a process that another supervisor started; the new Child closes both descriptors."""
        return cls(part, pid, pidfd, output, None)._watched()

    def _watched(self) -> Child:
        loop = asyncio.get_running_loop()
        loop.add_reader(self.output, self._readable)
        loop.add_reader(self.pidfd, self._exited)
        return self

    def send(self, number: int) -> None:
        """Send a signal unless the process has ended."""
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    async def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        self.send(signal.SIGKILL)
        await self.ended.wait()

    async def stop(self, number: int, grace: float) -> None:
        """Send a signal that asks the process to end; kill it after `grace` seconds."""
        self.send(number)
        if not await set_within(self.ended, grace):
            log.warning("%s did not end within %g s; killing it", self.part.name, grace)
            await self.kill()

    def _exited(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.pidfd)
        if self.process is not None:  # the new parent of an adopted child reaps it
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
        """Read a chunk. A child that exceeds RATE is read more slowly, so that it cannot keep the supervisor busy."""
        if self._read():
            loop = asyncio.get_running_loop()
            loop.remove_reader(self.output)
            self._pause = loop.call_later(DROP_PAUSE, loop.add_reader, self.output, self._readable)

    def _read(self) -> bool:
        """Read a chunk and show its lines; return whether some of it was dropped."""
        try:
            chunk = os.read(self.output, CHUNK)
        except BlockingIOError:
            return False
        if not chunk:  # it closed its output or ended; _exited cleans up
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
            self.tail.extend(filter(None, map(self._text, last)))  # if it ends next, these say why
        return bool(dropped)

    def _text(self, line: bytes) -> str:
        """The text to show of a line; empty for a line that is not shown."""
        text = one_line(line[:MAX_LINE].decode(errors="replace").rstrip())
        return text if self.part.shown(text) else ""

    def _tell_left_out(self) -> None:
        if self._left_out:
            say(f"{self.part.name}: … {self._left_out} lines left out: more than {RATE // 1024} KiB/s")
        self._left_out = 0


def describe_end(status: int | None) -> str:
    """A return code of subprocess in words; None means unknown."""
    if status is None:
        return "for an unknown reason"
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
