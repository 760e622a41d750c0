"""Boots an instance: from a fork to a serving process, or to the reason for the failure."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from rescoldo.isolation.identity import has_processes, kill_all_of
from rescoldo.kinds.protocol import WARM
from rescoldo.kinds.registry import kind_of
from rescoldo.model.errors import NodeUnavailable, StartFailed, StartTimeout
from rescoldo.model.instance import Launch
from rescoldo.model.limits import too_little_memory
from rescoldo.model.names import split_id
from rescoldo.model.text import one_line, read_json
from rescoldo.node.instances.fork_watch import ForkWatch
from rescoldo.node.instances.readiness import until_accepting
from rescoldo.node.instances.supervised import Supervised
from rescoldo.node.processes.processes import (
    Ends,
    Watched,
    any_alive,
    describe,
    handles_sigterm,
    kill_sessions,
    signal_group,
)
from rescoldo.node.processes.sandboxes import Ending, Sandboxes
from rescoldo.node.protocol import Bundles, Secrets
from rescoldo.node.zygotes.spares import Order
from rescoldo.node.zygotes.zygote import ZygoteGone
from rescoldo.node.zygotes.zygotes import Zygotes
from rescoldo.tasks import set_within

_LET_NEXT = 0.05  # seconds, at most, that a start keeps its turn after the fork: imports may take far longer
_ANSWER = 4096  # bytes, at most, of a message on the status pipe
_ANSWER_DEPTH = 4  # levels of nesting in its JSON, which a function may have written
_MAX_REASON = 1000  # characters of an instance's own reason for a failed start
_KILL_PATIENCE = 5.0  # seconds for the kernel to end a killed process
_SWEEPS = 14  # attempts to find a uid without processes: about 2 seconds
_REAP_PATIENCE = 4  # attempts before the expensive check whether only zombies are left: 15 ms

_TRIES = 3  # starts, at most, of a process that a third party kills before it is ready
_EARLY = " before it was ready"
_KILLED = f"{describe(signal.SIGKILL)}{_EARLY}"  # not out of memory: that reason reads otherwise

_LOG = logging.getLogger(__name__)


class Boot:
    """Starts and ends the processes of instances."""

    def __init__(
        self,
        zygotes: Zygotes,
        ends: Ends,
        sandboxes: Sandboxes,
        bundles: Bundles,
        secrets: Secrets,
        forks: ForkWatch | None = None,
    ) -> None:
        """`forks`: answers those instances that ask for their forks."""
        self._zygotes = zygotes
        self._ends = ends
        self._sandboxes = sandboxes
        self._bundles = bundles
        self._secrets = secrets
        self._forks = forks

    async def start(self, instance: Supervised) -> None:
        """Return when the instance serves. Raises StartFailed, or StartTimeout after its ready timeout; none of its
        processes is left then. The ready timeout includes neither the wait in the start queue nor the fetch of the
        bundle: the function is not to blame for other functions' starts.

        An instance that a third party killed before it was ready is started again, as its function is not to blame.
        The retry gets a fresh fork: the same party may have killed waiting spares whose ends the node has not
        noticed yet.
        """
        launch = instance.note.launch
        least = kind_of(launch).least_memory
        if too_little_memory(launch.memory_limit, least):
            problem = f"limits.memory is less than the {least // 2**20} MiB that a start needs"
            raise StartFailed(_explain(instance, problem))
        with _named(launch):
            instance.bundle = await self._bundles.find(launch.digest)
        with contextlib.nullcontext() if instance.was_ready else self._zygotes.spares_for(launch).wake():
            for attempt in range(_TRIES):
                trouble = await self._try_start(instance, fresh=attempt > 0)
                if trouble != _KILLED:
                    break
        if trouble:
            raise StartFailed(_explain(instance, trouble))

    async def _try_start(self, instance: Supervised, *, fresh: bool) -> str:
        """Start a process once. Return the reason for a failure, or "" when the instance serves. Raises
        StartTimeout."""
        instance.output.tail.clear()
        try:
            async with asyncio.timeout(None) as limit:
                answer = await self._fork_and_listen(instance, limit, fresh=fresh)
                # an exec closed the pipe, or the end of the process did
                if not answer and not kind_of(instance.note.launch).says_ready:
                    executed = time.monotonic()
                    answer = {"ready": await until_accepting(instance), "began": executed}
        except TimeoutError as error:
            await self.end(instance, grace=0.0)
            launch = instance.note.launch
            reason = f"it was not ready after {launch.ready_timeout:g} s"
            raise StartTimeout(_explain(instance, reason)) from error
        if answer.get("ready"):
            if not instance.was_ready:
                self._zygotes.spares_for(instance.note.launch).served_a_wake()
            instance.became_ready(answer.get("began"), answer.get("loaded"))
            return ""
        # Patience lets a dying process end with its own status: the node's SIGKILL would look like a third party's.
        ending = await self.end(instance, grace=0.0, patience=1.0)
        return _said(answer) or f"{ending.reason}{_EARLY}"

    async def _fork_and_listen(self, instance: Supervised, limit: asyncio.Timeout, *, fresh: bool) -> dict[str, object]:
        """Fork the process when the start queue gives it a turn, and return its status message. `limit` counts from
        that turn."""
        with contextlib.ExitStack() as opened:
            async with self._zygotes.start_queue.turn(instance.note.launch.function, replacing=instance.was_ready):
                left = instance.note.launch.ready_timeout - instance.waited
                limit.reschedule(asyncio.get_running_loop().time() + left)
                instance.ordered_at = time.monotonic()
                status_read, status_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
                answer = _Answer(status_read)
                opened.callback(answer.close)
                try:
                    os.set_blocking(status_write, True)  # only the node's end is to be non-blocking
                    await self._fork(instance, status_write, fresh=fresh)
                finally:
                    os.close(status_write)
                instance.expect_ready()
                await asyncio.wait({answer.told}, timeout=_LET_NEXT)
            return await answer.told

    async def _fork(self, instance: Supervised, status: int, *, fresh: bool) -> None:
        """Give a fork its order; retry once when the zygote dies meanwhile."""
        note = instance.note
        launch, bundle = instance.order(), instance.bundle
        assert bundle is not None
        told: dict[str, Any] = {"launch": launch.to_json(), "uid": note.uid, "gid": bundle.gid or note.uid or 0}
        told |= {"bundle": str(bundle.path), "scratch": instance.scratch, "data": self._data_limit(launch)}
        message = json.dumps(told).encode()
        opened = [instance.endpoint.open_for_child(), *instance.output.open_for_child()]
        try:
            await self._open_secrets(launch, opened)
            order = Order(
                message,
                descriptors=[*opened[:3], status, *opened[3:]],
                memory=launch.memory_limit,
                cpu=launch.cpu_limit,
                folder=opened[0] if instance.endpoint.gives_folder else None,
                fresh=fresh,
            )
            for _ in range(2):
                with contextlib.suppress(ZygoteGone):
                    return await self._zygotes.spares_for(launch).start(order, partial(self._forked, instance))
        finally:
            for descriptor in opened:
                os.close(descriptor)
        raise NodeUnavailable("the zygote ended twice while it started an instance")

    def _forked(self, instance: Supervised, process: Watched, sandbox: str, listener: int | None) -> None:
        instance.forked(process, sandbox, asks=listener is not None)
        if listener is not None:
            assert self._forks is not None
            self._forks.begin(instance, listener)

    def _data_limit(self, launch: Launch) -> int:
        """Bytes for `limit_data`, where no cgroup limits memory; 0 for none. None for programs: Go reserves 107 MiB at
        its start, and Node.js hangs in its start when it cannot reserve 48."""
        if self._sandboxes.base is not None or kind_of(launch).zygote != WARM:
            return 0
        return launch.memory_limit

    async def _open_secrets(self, launch: Launch, opened: list[int]) -> None:
        """Append a descriptor, open for reading, of each of the function's secrets to `opened`. Raises StartFailed."""
        _, namespace = split_id(launch.function)
        with _named(launch):
            for name in launch.secrets:
                opened += [await self._secrets.open(namespace, name)]

    async def end(self, instance: Supervised, *, grace: float, patience: float = 0.0) -> Ending:
        """End every process of the instance and return how it ended.

        Waits `patience` seconds for the process to end by itself, then sends SIGTERM and waits `grace` seconds (0:
        neither), then sends SIGKILL.
        """
        process, note, status = instance.process, instance.note, None
        if process is not None:
            await set_within(process.ended, patience)
            await self.ask_to_end(instance, grace)
            # The process itself, too: its group does not exist yet if it was killed between fork and setsid.
            process.kill()
            signal_group(process.pid, signal.SIGKILL)
            if not await set_within(process.ended, _KILL_PATIENCE):
                _LOG.error("process %d is still running after SIGKILL", process.pid)
            if note.uid is None:  # without a uid of its own, its sessions also hold children that changed their group
                own = [] if self._forks is None else self._forks.sessions(process.pid)
                await kill_sessions({process.pid, *own})
            status = await self._ends.take(process.pid)
            instance.process = None
            process.close()
        instance.swept = await self.sweep(note.uid)
        if instance.condemned:
            ending = Ending(instance.condemned, starved=True)
        else:
            ending = self._sandboxes.ending(note.sandbox, status, note.launch.memory_limit)
        await self._sandboxes.remove(note.sandbox)
        await instance.output.drain()
        return ending

    async def ask_to_end(self, instance: Supervised, grace: float) -> None:
        """Send SIGTERM to an instance that handles it, and wait up to `grace` seconds (0: neither)."""
        process = instance.process
        if process is None or process.ended.is_set() or grace <= 0 or not handles_sigterm(process.pid):
            return
        signal_group(process.pid, signal.SIGTERM)
        if not await set_within(process.ended, grace):
            instance.output.keep([f"instance killed: it did not end within {grace:g} s of SIGTERM"])

    async def sweep(self, uid: int | None) -> bool:
        """Kill every process of `uid`, in whatever group or session; return whether none is left. None: nothing to
        do."""
        if uid is None:
            return True
        pause = 0.001
        for attempt in range(_SWEEPS):
            if not has_processes(uid):
                return True
            # Remaining processes may be zombies that wait for another, slow parent to reap them.
            if attempt >= _REAP_PATIENCE and not any_alive(uid):
                return True
            kill_all_of(uid)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.25)
        _LOG.error("processes of uid %d are still running after SIGKILL", uid)
        return False


class _Answer:
    """The status message of an instance: one JSON line on its status pipe, or nothing when it dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._data = b""
        self._loop = asyncio.get_running_loop()
        self.told: asyncio.Future[dict[str, object]] = self._loop.create_future()
        self._loop.add_reader(descriptor, self._on_readable)

    def _on_readable(self) -> None:
        chunk = os.read(self._descriptor, _ANSWER - len(self._data))
        self._data += chunk
        if chunk and b"\n" not in chunk and len(self._data) < _ANSWER:
            return
        self._loop.remove_reader(self._descriptor)
        if self.told.done():
            return
        try:
            message = read_json(self._data or b"{}", _ANSWER_DEPTH)
        except ValueError as error:
            message = {"error": f"its status message is invalid ({error}): {self._data[:200]!r}"}
        self.told.set_result(message if isinstance(message, dict) else {})

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)


@contextlib.contextmanager
def _named(launch: Launch) -> Iterator[None]:
    """Put the function's name before the reason of a StartFailed."""
    try:
        yield
    except StartFailed as error:
        raise StartFailed(f"{launch.function}: {error.message}") from error


def _said(answer: dict[str, object]) -> str:
    """The instance's own reason for a failed start, cut and on one line: a function can write anything there."""
    reason = answer.get("error") or ""
    return one_line(reason[:_MAX_REASON] if isinstance(reason, str) else f"{reason!r:.{_MAX_REASON}}")


def _explain(instance: Supervised, reason: str) -> str:
    launch = instance.note.launch
    if advice := kind_of(launch).advice(instance.output.tail):
        reason += f"; {advice}"
    lines = [f"{launch.function}: {reason}", *map(one_line, instance.output.tail)]
    return "\n".join(lines)
