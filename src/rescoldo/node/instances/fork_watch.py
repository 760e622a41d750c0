"""Limits instances' processes where no cgroup does: each fork waits for this node's answer.

A fork bomb cannot outrun the node, as every one of its forks needs the node first, and a process that waits for that
needs no processor. Forks of an instance are counted until the next scan of /proc (`MemoryWatch`) finds its processes.
When the count reaches MOST_PIDS, further forks wait for a scan. If that finds as many, the instance is killed. Each
further fork of a killed or ended instance gets the process killed that asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from rescoldo.isolation.cgroups import MOST_PIDS
from rescoldo.isolation.forks import ForkListener, Question
from rescoldo.node.instances.supervised import Supervised
from rescoldo.node.processes.footprints import Footprints
from rescoldo.node.processes.kept_listeners import KeptListeners, Key
from rescoldo.node.processes.processes import make_way, read_stat

CROWD = 32  # processes of an instance, beyond which each one that forks has the lowest priority from then on
CROWD_PAUSE = 0.005  # seconds between two forks of such an instance
_AT_ONCE = 16  # answers before the loop does other work


@dataclass(slots=True, eq=False)
class _Gate:
    """The forks of one instance's processes, from its start until the last of them has ended."""

    listener: ForkListener
    key: Key
    instance: Supervised | None  # None: of an instance that a dead node was starting or stopping
    found: int = 1  # processes at the last scan
    made: int = 0  # forks since then
    under_way: set[int] = field(default_factory=set)  # threads that were allowed a fork and may not have made it yet
    held: bool = False  # its forks wait for a scan

    @property
    def descriptor(self) -> int:
        return self.listener.fileno()

    @property
    def is_closed(self) -> bool:
        """Whether its instance, or the process of it that this gate is for, has ended or is being killed."""
        one = self.instance
        if one is None or one.process is None or one.process.pid != self.key.pid:
            return True
        return bool(one.condemned) or one.process.ended.is_set()

    @property
    def count(self) -> int:
        return self.found + self.made + len(self.under_way)


class ForkWatch:
    """Answers the forks of all instances of a node."""

    def __init__(self, footprints: Footprints, kept: KeptListeners) -> None:
        self._footprints = footprints
        self._kept = kept
        self._gates: dict[int, _Gate] = {}  # by descriptor
        self._epoll = select.epoll()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll, self._answer)
        self.on_full: Callable[[], None] = lambda: None  # a scan is wanted

    def begin(self, instance: Supervised, listener: int) -> None:
        """Answer the forks of the instance's present process, which has not run any code of its function yet."""
        process = instance.process
        assert process is not None
        key = Key(process.pid, process.started)
        self._kept.keep(key, listener)
        self._add(_Gate(ForkListener(listener), key, instance))

    def regain(self, instances: Mapping[Key, Supervised]) -> Iterator[Supervised]:
        """Take over from a dead node; yield those of the adopted instances whose listener is lost, so that their forks
        fail."""
        regained = self._kept.regain()
        for key, descriptor in regained.items():
            self._add(_Gate(ForkListener(descriptor), key, instances.get(key)))
        for key, instance in instances.items():
            if instance.note.asks and key not in regained:
                yield instance

    def _add(self, gate: _Gate) -> None:
        self._gates[gate.descriptor] = gate
        self._epoll.register(gate.listener, select.EPOLLIN)

    def sessions(self, pid: int) -> list[int]:
        """The sessions that processes of the instance with this main process have made."""
        return self._footprints.sessions(pid)

    def is_full(self, pid: int, processes: int) -> bool:
        """Whether a fork of the instance with the main process `pid` waits, beside so many processes that were
        found."""
        return processes >= MOST_PIDS and any(gate.held and gate.key.pid == pid for gate in self._gates.values())

    def before_scan(self) -> None:
        """Find out which forks a scan that begins now may miss. On busy processors the thread that was allowed one may
        wait for half a second before it makes it."""
        for gate in self._gates.values():
            gate.under_way = {thread for thread in gate.under_way if _may_run(thread)}

    def scanned(self, found: Mapping[int, int]) -> None:
        """Take the numbers of processes that a scan has found, by main process."""
        for gate in self._gates.values():
            gate.found, gate.made = found.get(gate.key.pid, 1), 0
            if gate.held and (gate.count < MOST_PIDS or gate.is_closed):
                gate.held = False
                self._epoll.register(gate.listener, select.EPOLLIN)
        if any(gate.held for gate in self._gates.values()):
            self.on_full()

    def _answer(self) -> None:
        for descriptor, events in self._epoll.poll(0, _AT_ONCE):
            gate = self._gates[descriptor]
            if not events & select.EPOLLIN:  # all of its processes have ended
                self._remove(gate)
            elif gate.is_closed:
                self._kill_one(gate)
            elif gate.count >= MOST_PIDS:
                gate.held = True
                self._epoll.unregister(descriptor)  # the question stays with the kernel: the next node must find it
                self.on_full()
            elif (question := gate.listener.receive()) is not None:
                self._allow(gate, question)

    def _allow(self, gate: _Gate, question: Question) -> None:
        if question.leaves_session:
            self._footprints.note_session(question.pid, gate.key.pid)
        if gate.found > CROWD:
            make_way(question.pid)
            self._pause(gate)
        elif gate.count > CROWD:  # or children that ended at once: an innocent function would keep the low priority
            self.on_full()
        if gate.listener.allow(question) and not question.leaves_session:
            gate.made += question.pid in gate.under_way
            gate.under_way.add(question.pid)

    def _pause(self, gate: _Gate) -> None:
        self._epoll.unregister(gate.listener)
        self._loop.call_later(CROWD_PAUSE, self._go_on, gate)

    def _go_on(self, gate: _Gate) -> None:
        if self._gates.get(gate.descriptor) is gate:
            self._epoll.register(gate.listener, select.EPOLLIN)

    def _kill_one(self, gate: _Gate) -> None:
        question = gate.listener.receive()
        if question is not None and question.pid > 0 and gate.listener.waits(question):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(question.pid, signal.SIGKILL)

    def _remove(self, gate: _Gate) -> None:
        self._epoll.unregister(gate.listener)
        del self._gates[gate.descriptor]
        self._kept.drop(gate.key)
        gate.listener.close()

    def close(self) -> None:
        """Answer no more. Call it when all instances have ended."""
        self._loop.remove_reader(self._epoll)
        self._epoll.close()
        for gate in self._gates.values():
            gate.listener.close()
        self._gates.clear()
        self._kept.close()


def _may_run(thread: int) -> bool:
    """Whether a thread runs, waits for a processor, or waits for memory inside of a fork."""
    stat = read_stat(thread)
    return stat is not None and stat.state in "RD"
