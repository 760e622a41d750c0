"""One child process: started, its output read, started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rescoldo.supervisor.platformlog import say
from rescoldo.supervisor.probes import Probe

log = logging.getLogger(__name__)

CHUNK = 65536  # bytes read at once
MAX_LINE = 2000  # bytes of a line that are shown
TAIL_LINES = 20


@dataclass(slots=True)
class Program:
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
    program: Program
    pid: int
    pidfd: int
    output: int  # the end of its pipe that is read here
    process: subprocess.Popen[bytes] | None  # None: another supervisor's child, adopted
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    status: int | None = None  # once it has ended, as subprocess has it; None: not known
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    on_end: Callable[[Child], None] = lambda child: None
    _rest: bytes = b""

    @classmethod
    def start(cls, program: Program, command: Sequence[str] | None = None) -> Child:
        """Start it; its output is read and shown, whatever it writes, so that it never blocks on a pipe.

        Raises OSError.
        """
        output, theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(output, False)
        os.set_blocking(theirs, program.waits)
        try:
            process = subprocess.Popen(
                list(command or program.command()),
                env={**os.environ, **program.environment},
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                pass_fds=program.descriptors,
                start_new_session=True,  # signals of a terminal are not for it
            )
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(theirs)
        return cls(program, process.pid, os.pidfd_open(process.pid), output, process)._watched()

    @classmethod
    def adopt(cls, program: Program, pid: int, pidfd: int, output: int) -> Child:
        """Go on with one that another supervisor started; the descriptors are this child's to close."""
        return cls(program, pid, pidfd, output, None)._watched()

    def _watched(self) -> Child:
        loop = asyncio.get_running_loop()
        loop.add_reader(self.output, self._read)
        loop.add_reader(self.pidfd, self._exited)
        return self

    def send(self, number: int) -> None:
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    async def stop(self, number: int, grace: float) -> None:
        """Ask it to end; kill it after `grace` seconds."""
        self.send(number)
        try:
            await asyncio.wait_for(self.ended.wait(), grace)
        except TimeoutError:
            log.warning("%s did not end within %g s and is killed", self.program.name, grace)
            self.send(signal.SIGKILL)
            await self.ended.wait()

    def _exited(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.pidfd)
        if self.process is not None:  # others are reaped by whoever became their parent
            self.status = self.process.wait()
        self._read()
        loop.remove_reader(self.output)
        os.close(self.output)
        os.close(self.pidfd)
        self.ended.set()
        self.on_end(self)

    def _read(self) -> None:
        try:
            chunk = os.read(self.output, CHUNK)
        except BlockingIOError:
            return
        if not chunk:  # closed its output, or ended: _exited cleans up
            asyncio.get_running_loop().remove_reader(self.output)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            text = line[:MAX_LINE].decode(errors="replace").rstrip()
            if text and self.program.shown(text):
                self.tail.append(text)
                say(f"{self.program.name}: {text}")


def describe_end(status: int | None) -> str:
    """What a return code of subprocess means; None: not known."""
    if status is None:
        return "how is not known"
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
