"""The guardian: the main process of a platform. It keeps a supervisor running, and holds what must outlive one.

    python guardian.py SECONDS COMMAND...

The guardian starts COMMAND (the supervisor) and restarts it when it dies or sends no message for SECONDS. Like
systemd's descriptor store, it holds by name the descriptors that must survive a supervisor: listening sockets, the
pipes that its children write to, the lock on the data directory. Each new supervisor inherits all of them.

The supervisor watches the guardian in turn. When the guardian is killed, the supervisor becomes the next guardian
(`become_guardian`) and starts a new supervisor, which takes the platform over. So there is one way to recover,
whichever of the two has died.

The process is small because it imports next to nothing: neither asyncio nor anything of rescoldo.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from time import monotonic, sleep
from typing import Any, NoReturn

KEPT = "RESCOLDO_KEPT"  # variable: names and numbers of the inherited descriptors, as JSON
CONTROL = "RESCOLDO_CONTROL_FD"  # variable: the supervisor's end of the socket pair
LOG = "stderr"  # name of the descriptor that this process writes its messages to
DRAINING = "draining"  # name of the descriptor by which the next supervisor goes on draining
LASTING = ":"  # marks the descriptors of a running process: NAME:PID
TICK_MS = 1000
MAX_MESSAGE = 4096  # bytes
MAX_DESCRIPTORS = 64  # of one name
STABLE_SECONDS = 5.0  # a supervisor that lived this long is restarted at once
LONGEST_PAUSE = 2.0  # seconds; the longest back-off between starts of a supervisor that dies early
MOST_STILLBORN = 5  # supervisors in a row that ended before their first message; then the guardian gives up
START_TICKS = 60  # of silence before a supervisor's first message
_STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def pause(deaths: int) -> float:
    """Back-off in seconds before the next start, after 1, 2, 3, 4 … early deaths in a row: 0, 0.05, 0.1, 0.2 … 2."""
    return 0.0 if deaths <= 1 else min(LONGEST_PAUSE, 0.05 * 2.0 ** min(deaths - 2, 10))


def become_guardian(silence: float, command: Sequence[str], kept: Mapping[str, Sequence[int]]) -> NoReturn:
    """Turn this process into the guardian of `command`; its pid and its children stay.

    Raises OSError when that fails; this process then goes on as before.
    """
    numbers = [number for numbers in kept.values() for number in numbers]
    environment = {**os.environ, KEPT: json.dumps({name: list(numbers) for name, numbers in kept.items()})}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)  # until the guardian handles them, they would end it
    for number in numbers:
        os.set_inheritable(number, True)
    try:
        # run as a file, isolated and without site: neither the package nor the environment is imported
        os.execve(sys.executable, [sys.executable, "-IS", __file__, f"{silence:g}", *command], environment)
    finally:
        for number in numbers:
            os.set_inheritable(number, False)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Guardian:
    """Runs one supervisor after another; kills one that is silent for `ticks` (about seconds)."""

    def __init__(self, ticks: int, command: list[str], kept: dict[str, list[int]]) -> None:
        self._ticks = ticks
        self._command = command
        self._kept = kept
        self._asked = int(DRAINING in kept)  # how often to stop; the signal before came to an earlier guardian
        self._pid = 0  # the supervisor's
        self._status: int | None = None  # how it ended
        self._signals, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> int:
        """Run supervisors until one ends on request or cannot go on; return its exit status."""
        self._handle_signals()
        deaths = stillborn = 0
        while True:
            started = monotonic()
            status, spoke = self._run_supervisor()
            if status in (0, os.EX_CONFIG):
                return status
            stillborn = 0 if spoke else stillborn + 1
            # while edge, node or controller run, keep trying: only a new supervisor can take them over
            if stillborn >= MOST_STILLBORN and not any(LASTING in name for name in self._kept):
                return max(1, status)
            deaths = deaths + 1 if monotonic() - started < STABLE_SECONDS else 1
            if self._asked and deaths >= MOST_STILLBORN:
                return max(1, status)
            _say(f"the supervisor ended ({_describe(status)}); restarting it")
            sleep(pause(deaths))

    def _handle_signals(self) -> None:
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, _noted)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # ignored under nohup
            signal.signal(signal.SIGHUP, _noted)
        signal.signal(signal.SIGTSTP, _noted)  # a Ctrl-Z would leave the platform without its guardian
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)

    def _run_supervisor(self) -> tuple[int, bool]:
        """Run one supervisor; return its exit status (negative: a signal) and whether it ever sent a message."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with ours:
            with theirs:
                try:
                    self._pid, self._status = self._spawn(theirs.fileno()), None
                except OSError as error:
                    _say(f"cannot start the supervisor: {error}")
                    return 1, False
            return self._watch(ours)

    def _spawn(self, control: int) -> int:
        os.set_inheritable(control, True)
        environment = {**os.environ, KEPT: json.dumps(self._kept), CONTROL: str(control)}
        # A session of its own: Ctrl-C at the terminal reaches the guardian alone, which passes it on.
        return os.posix_spawn(self._command[0], self._command, environment, setsid=True, setsigmask=[])

    def _watch(self, control: socket.socket) -> tuple[int, bool]:
        poll = select.poll()
        poll.register(control, select.POLLIN)
        poll.register(self._signals, select.POLLIN)
        spoke = False
        told: signal.Signals | None = None
        silent = 0  # ticks, not seconds: while the guardian itself is stopped, it cannot hear the supervisor
        while True:
            ready = {number for number, _ in poll.poll(TICK_MS)}
            self._take_signals()
            if control.fileno() in ready:
                if self._take_messages(control):
                    spoke, silent = True, 0
                else:
                    poll.unregister(control)  # the supervisor closed its end, so it is ending
            if self._status is not None:
                self._take_messages(control)  # its last messages may pass descriptors
                return self._status, spoke
            if not ready:
                silent += 1
                if silent >= (self._ticks if spoke else max(START_TICKS, self._ticks)):
                    _say(f"the supervisor did not report for {silent} s; killing it")
                    os.kill(self._pid, signal.SIGKILL)
                    silent = 0
            if spoke and (order := self._order()) not in (None, told):  # from its first message on, it handles both
                os.kill(self._pid, order)
                told = order

    def _order(self) -> signal.Signals | None:
        """The signal for the supervisor: SIGTERM asks it to stop, SIGINT not to drain any longer.

        A supervisor that replaces one which was draining gets the last signal again, and neither counts twice.
        """
        if self._asked > 1 and DRAINING in self._kept:
            return signal.SIGINT
        return signal.SIGTERM if self._asked else None

    def _take_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            numbers = os.read(self._signals, 4096)
            self._asked += sum(number in _STOP for number in numbers)
        while True:  # the guardian inherits a dead supervisor's children, which may end later
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._pid:
                self._status = os.waitstatus_to_exitcode(status)

    def _take_messages(self, control: socket.socket) -> bool:
        """Take every pending message; return False when the other end is closed."""
        while True:
            try:
                message, numbers, _, _ = socket.recv_fds(
                    control, MAX_MESSAGE, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
                )
                if not message:
                    return False
                self._take_order(json.loads(message), numbers)
                control.send(b"{}")  # a sign of life in return
            except BlockingIOError:
                return True
            except OSError:
                return False

    def _take_order(self, order: dict[str, Any], numbers: list[int]) -> None:
        """Keep descriptors under a name, or close those of some names."""
        gone = [order["keep"]] if "keep" in order else order.get("drop", [])
        for name in gone:
            for number in self._kept.pop(name, []):
                os.close(number)
        if "keep" in order:
            for number in numbers:
                os.set_inheritable(number, True)
            self._kept[order["keep"]] = numbers
            if order["keep"] == LOG:  # the supervisor opened the log again
                os.dup2(numbers[0], 2)


def _noted(*_: object) -> None:
    """Do nothing: the wake-up descriptor reports the signal."""


def _describe(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"signal {-status}"


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk or a closed terminal must not end the guardian
        os.write(2, f"guardian: {text}\n".encode())


def main(arguments: list[str]) -> int:
    """Guard the command `arguments[1:]`, which counts as dead after `arguments[0]` seconds of silence."""
    with contextlib.suppress(OSError):  # prctl would cost the memory of ctypes
        name = os.open("/proc/self/comm", os.O_WRONLY)
        os.write(name, b"rescoldo-guard")
        os.close(name)
    return Guardian(int(float(arguments[0])), arguments[1:], json.loads(os.environ.pop(KEPT, "{}"))).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
