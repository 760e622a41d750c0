"""Enforces memory limits where no cgroup does: at the level unprivileged, and where cgroups cannot be made.

It polls /proc. What an instance takes between two polls is not noticed in time: `limit_data` in
isolation/identity.py is the second net.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterable

from rescoldo.isolation.cgroups import MOST_PIDS
from rescoldo.isolation.container import Memory
from rescoldo.model.errors import Busy
from rescoldo.model.instance import Launch
from rescoldo.model.names import FunctionId
from rescoldo.node.instances.brake import Brake, go_on, stop
from rescoldo.node.instances.fork_watch import ForkWatch
from rescoldo.node.instances.processor_watch import ProcessorWatch
from rescoldo.node.instances.roster import Roster
from rescoldo.node.instances.supervised import Supervised
from rescoldo.node.processes.footprints import STRAYS, Footprint, Footprints
from rescoldo.node.processes.processes import Watched, make_way, signal_group
from rescoldo.node.processes.sandboxes import excess
from rescoldo.policy.memory import NOISE, SHORTEST_PAUSE, Use, Usual, fits, over_limit, pause, room, to_free
from rescoldo.policy.spares import SPARE_MEMORY

SCAN_SECONDS = 0.3  # between two polls of all instances; with 300 of them one takes 4.9 ms, 1.6 % of a core
GROWTH = 32 * 2**20  # bytes by which the container's use has grown when a scan is due at once
RECOUNT_SECONDS = 0.05  # between two scans for starts that seem not to fit
MANY_FORKS = 64  # new processes and threads of the machine, or container, since the last poll: a scan is due at once
MOST_STRAYS = 64  # processes that may outlive their instances, in all
FREEING_SECONDS = 0.1  # after a kill, in which none is killed that has not grown
PURGE_SECONDS = 2.0  # for which all strays are killed after there were too many processes
_MIB = 2**20
_NOTHING = Footprint(0, 0, ())

_LOG = logging.getLogger(__name__)


class MemoryWatch:
    """Admits starts, and kills instances that exceed their limits or fill the container."""

    def __init__(
        self,
        roster: Roster,
        footprints: Footprints,
        memory: Callable[[], Memory],
        cpus: float,
        others: Callable[[], Iterable[Watched]] = tuple,
        forks: ForkWatch | None = None,
    ) -> None:
        """`memory` reads the limit and the use of the container, which has `cpus`; `others` are the processes of this
        platform below the node that are no instances; `forks` answers instances that ask for their forks."""
        self._roster = roster
        self._footprints = footprints
        self._memory = memory
        self._cpus = cpus
        self._others = others
        self._forks = forks
        if forks is not None:
            forks.on_full = self._count_soon
        self._counting: asyncio.TimerHandle | None = None  # the scan for forks that wait
        self._brake = Brake()
        self._processors = ProcessorWatch(cpus)
        self._now = memory()  # at the last poll
        self._used = self._now.used  # the least since the last scan
        self._usual = Usual[FunctionId]()  # of `Footprint.own`: what a start will take
        self._usual_most = Usual[FunctionId]()  # of `Footprint.most`: what an instance may have without having grown
        self._least: dict[int, tuple[int, int]] = {}  # the least of both since it is ready, by pid
        self._dying: dict[int, int] = {}  # bytes of killed processes that have not ended yet, by pid
        self._promised = 0  # bytes that instances which have begun to start will still take
        self._scan_at = 0.0  # seconds on the loop's clock: the next scan
        self._newest = footprints.newest()  # pid at the last poll
        self._purge_until = 0.0  # the same: until then all strays are killed
        self._killed_at = -FREEING_SECONDS  # the same
        self._recount_at = 0.0  # the same: the next scan for a start that seems not to fit
        self._turn = asyncio.Lock()  # of the start that waits for room; the others wait for it, first come first served

    async def run(self) -> None:
        """Poll until cancelled, and faster the less memory the container has left."""
        try:
            # A node that was killed while memory was short has left them stopped. One that was killed between a fork's
            # question and its answer has left it waiting: a stop makes it ask anew.
            found = [pid for footprint in self._measure().values() for pid in footprint.processes]
            if self._forks is not None:
                stop(found)
            go_on(found)
            while True:
                await asyncio.sleep(self.poll())
        finally:
            self._brake.release(0.0)

    def poll(self) -> float:
        """Look once, and kill what has to be killed; return the seconds until the next poll."""
        now = asyncio.get_running_loop().time()
        due = now >= self._scan_at
        if due or self._now.contained:
            self._now = self._memory()
            self._used = min(self._used, self._now.used)
            due = due or (self._forks is None and self._forks_abound())
        left = self._room() if self._now.contained else None
        if left is not None and left < 0:
            self._brake.hold((found.process for found in self._roster if found.process is not None), now)
        grown = self._now.contained and self._now.used > self._used + GROWTH
        if due or grown or (left is not None and left < 0):
            self._scan_at, self._used = now + SCAN_SECONDS, self._now.used
            self._scan(left)
            if self._now.contained:
                self._now = self._memory()  # what grew during the scan would count neither as used nor as promised
        if self._brake.holds and (self._room() >= 0 or self._brake.is_overdue(now)):
            self._brake.release(now)
        until_scan = max(SHORTEST_PAUSE, self._scan_at - now)
        return until_scan if left is None else min(pause(left, self._cpus), until_scan)

    def _forks_abound(self) -> bool:
        """Whether many processes were made since the last poll: a fork bomb makes some thousand in a second."""
        before, self._newest = self._newest, self._footprints.newest()
        return self._newest - before > MANY_FORKS or self._newest < before

    def _room(self) -> int:
        return room(self._now.limit, self._now.used, self._cpus)

    async def take_room(self, instance: Supervised) -> None:
        """Promise the instance what it will usually take, as soon as that fits beside what was promised to others.

        Raises Busy when it would not fit even if the others took nothing. They usually take less than was promised:
        new functions get 16 MiB each and take some 6, so 150 that wake at once in 2 GiB fit, though not all promises.
        """
        if self._now.contained:
            async with self._turn:
                while not self._fits_now(instance.note.launch):
                    await asyncio.sleep(RECOUNT_SECONDS)
        instance.has_room = True

    def _fits_now(self, launch: Launch) -> bool:
        """Promise a start what it needs and return True, or return False while other starts are in its way. Raises
        Busy. A start that fits costs no system call: the figures are those of the last poll. Before any other answer
        they are read anew."""
        if not self._fits(self._usual_of(launch)) or self._may_learn_of(launch.function):
            self._recount()
        usual = self._usual_of(launch)
        if self._fits(usual):
            self._promised += usual
            return True
        if not fits(self._now.limit, self._now.used, 0, usual, self._cpus):
            raise Busy(
                f"{self._now.used // _MIB} of this container's {self._now.limit // _MIB} MiB of memory are used, and "
                f"{launch.function} needs {usual // _MIB} more beside the reserve: raise the container's limit, add "
                "workers, or let functions sleep sooner"
            )
        return False

    def _may_learn_of(self, function: FunctionId) -> bool:
        """Whether an instance of a function serves that no poll has measured yet."""
        return function not in self._usual and any(one.function == function and one.serves for one in self._roster)

    def _recount(self) -> None:
        """Scan now, unless that was done a moment ago: refused starts are repeated often."""
        if (now := asyncio.get_running_loop().time()) >= self._recount_at:
            self._recount_at, self._scan_at = now + RECOUNT_SECONDS, 0.0
            self.poll()

    def _count_soon(self) -> None:
        """Scan for forks that wait, as soon as that was not done a moment ago."""
        if self._counting is None:
            loop = asyncio.get_running_loop()
            self._counting = loop.call_at(max(loop.time(), self._recount_at), self._count_now)

    def _count_now(self) -> None:
        self._counting = None
        self._recount()

    def _fits(self, usual: int) -> bool:
        return fits(self._now.limit, self._now.used, self._promised, usual, self._cpus)

    def _usual_of(self, launch: Launch) -> int:
        return self._usual.of(launch.function, launch.memory_limit)

    def _scan(self, left: int | None) -> None:
        """Measure all instances, learn what is usual, and kill."""
        if self._forks is not None:
            self._forks.before_scan()
        running = self._running()
        found = self._measure(exact=left is not None and left < 0)
        self._brake.hold_children(pid for footprint in found.values() for pid in footprint.processes)
        if self._now.contained:
            now = asyncio.get_running_loop().time()
            self._processors.look(now, {pid: footprint.processes for pid, footprint in found.items()})
        strays = found.pop(STRAYS, _NOTHING)
        living = {pid for pid, instance in running.items() if _lives(instance)}
        living |= {STRAYS} if strays.processes else set()
        self._dying = {pid: own for pid, own in self._dying.items() if pid in living}
        self._learn(running, found)
        self._promised = self._count_promised(found)
        uses = [self._use(running[pid], footprint) for pid, footprint in found.items()]
        for use in over_limit(use for use in uses if not use.instance.condemned):
            self._kill(use.instance, found, excess(use.limit))
        self._kill_crowds(running, found, strays)
        if self._forks is not None:
            self._forks.scanned({pid: len(footprint.processes) for pid, footprint in found.items()})
        if left is not None:
            self._free(left, uses, found, strays)

    def _running(self) -> dict[int, Supervised]:
        return {found.process.pid: found for found in self._roster if found.process is not None}

    def _measure(self, *, exact: bool = False) -> dict[int, Footprint]:
        limits = {pid: found.note.launch.memory_limit for pid, found in self._running().items()}
        return self._footprints.measure(limits, exact=exact, ours=[process.pid for process in self._others()])

    def _kill_crowds(self, running: dict[int, Supervised], found: dict[int, Footprint], strays: Footprint) -> None:
        """Kill instances with too many processes. Those that they have just forked are killed as strays, at one scan
        after another."""
        now = asyncio.get_running_loop().time()
        for pid, footprint in found.items():
            count = len(footprint.processes)
            full = count > MOST_PIDS or (self._forks is not None and self._forks.is_full(pid, count))
            if full and not running[pid].condemned:
                _make_way(footprint.processes)  # also while the kernel takes them down, which takes a processor as long
                self._kill(running[pid], found, f"it had more than {MOST_PIDS} processes")
                self._purge_until = now + PURGE_SECONDS
        if len(strays.processes) > MOST_STRAYS:
            self._purge_until = now + PURGE_SECONDS
        if now < self._purge_until:
            # where forks ask, those of a killed instance fail, and few are left
            self._scan_at = now + (SHORTEST_PAUSE if self._forks is None else RECOUNT_SECONDS)
            self._kill_strays(strays)

    def _free(self, left: int, uses: list[Use[Supervised]], found: dict[int, Footprint], strays: Footprint) -> None:
        """Kill one instance after another until the memory of those that were killed makes up for the shortage.

        Until a killed process has ended, what it used counts as room. A new look would not do: the kernel shows no
        memory for it before it has freed its pages, and an innocent instance would be killed for them.
        """
        left += sum(self._dying.values())
        others = [use for use in uses if not use.instance.condemned]
        freeing = bool(self._dying) or asyncio.get_running_loop().time() < self._killed_at + FREEING_SECONDS
        while left < 0 and (use := to_free(others, freeing=freeing)) is not None:
            if strays.most >= max(NOISE, use.most - use.usual) and STRAYS not in self._dying:
                self._kill_strays(strays)
                left += strays.own
                continue
            others.remove(use)
            reason = (
                f"out of memory: the container's limit of {self._now.limit // _MIB} MiB was almost reached, and it "
                f"used the most beyond what is usual ({use.most // _MIB} MiB)"
            )
            self._kill(use.instance, found, reason)
            left += use.own

    def _learn(self, running: dict[int, Supervised], found: dict[int, Footprint]) -> None:
        self._least = {pid: least for pid, least in self._least.items() if pid in found}
        # `own` leaves out the pages of the zygote that the fork has copied: those that a spare has of its own.
        for pid, footprint in found.items():
            if running[pid].serves and not running[pid].condemned:
                own, most = self._least.get(pid, (footprint.own, footprint.most))
                self._least[pid] = own, most = min(own, footprint.own), min(most, footprint.most)
                self._usual.learn(running[pid].function, own + SPARE_MEMORY)
                self._usual_most.learn(running[pid].function, most)

    def _count_promised(self, found: dict[int, Footprint]) -> int:
        """What instances that have not served yet will still take, beyond what they use already."""
        promised = 0
        for one in self._roster:
            if one.has_room and (pid := one.note.pid) not in self._least:
                own = found[pid].own if pid in found else 0
                promised += max(0, self._usual_of(one.note.launch) - own)
        return promised

    def _use(self, instance: Supervised, footprint: Footprint) -> Use[Supervised]:
        launch = instance.note.launch
        usual = self._usual_most.of(launch.function, launch.memory_limit)
        return Use(instance, footprint.own, footprint.most, launch.memory_limit, usual)

    def _kill(self, instance: Supervised, found: dict[int, Footprint], reason: str) -> None:
        instance.condemned = reason
        launch, process = instance.note.launch, instance.process
        assert process is not None
        _LOG.warning("%s of %s: %s", launch.instance, launch.function, reason)
        signal_group(process.pid, signal.SIGKILL)  # in one step, so that no fork of it escapes
        process.kill()
        _kill_all(found[process.pid].processes)
        self._dying[process.pid] = found[process.pid].own
        self._killed_at = asyncio.get_running_loop().time()

    def _kill_strays(self, strays: Footprint) -> None:
        if strays.processes and STRAYS not in self._dying:
            count, used = len(strays.processes), strays.most // _MIB
            _LOG.warning("killing %d processes that have outlived their instances, with %d MiB", count, used)
        _kill_all(strays.processes)
        self._dying[STRAYS] = strays.own


def _make_way(pids: Iterable[int]) -> None:
    for pid in pids:
        make_way(pid)


def _kill_all(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _lives(instance: Supervised) -> bool:
    return instance.process is not None and not instance.process.ended.is_set()
