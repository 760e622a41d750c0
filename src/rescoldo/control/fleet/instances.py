"""Starts and stops single instances, and keeps the edge's servers in step with them.

`live` always holds what the edge should have, and changes before the edge hears of it: so a synchronisation at any
moment neither loses nor resurrects a server.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Set

from rescoldo.control.fleet.awake import Awake
from rescoldo.control.fleet.life import Stage
from rescoldo.control.fleet.lifetimes import Lifetimes
from rescoldo.control.fleet.outages import RETRY_SECONDS, outlast
from rescoldo.edge.protocol import Edge, LiveServer, SlotLoad
from rescoldo.model.coldstart import StartTimes
from rescoldo.model.errors import Busy, EdgeUnavailable, NodeUnavailable, StartFailed
from rescoldo.model.instance import Launch
from rescoldo.model.names import FunctionId, InstanceId, SlotName, split_id
from rescoldo.node.protocol import Exit, Node
from rescoldo.tasks import Tasks

log = logging.getLogger(__name__)

Permit = Callable[[FunctionId], Awaitable[None]]
"""Returns while this worker may start an instance of a function with max-strict. Raises Busy with the reason."""

BURY_SECONDS = 1.0  # for requests in a dead instance of a revision that is being checked or drained


class Instances:
    """Starts and stops instances, and knows the live ones."""

    def __init__(self, node: Node, edge: Edge, tasks: Tasks, permit: Permit | None = None) -> None:
        """`permit`: None on a platform that stands alone, which shares no function with another."""
        self.live: dict[InstanceId, LiveServer] = {}
        self.lifetimes = Lifetimes()
        self._node = node
        self._edge = edge
        self._tasks = tasks
        self._permit = permit
        self._ended: dict[InstanceId, Exit | None] = {}  # each instance being started, with its exit once reported

    @property
    def starting(self) -> Set[InstanceId]:
        """Instances being started: they may run already, and enter `live` only right before the edge hears of them."""
        return self._ended.keys()

    def note(self, launch: Launch) -> None:
        """Note that an instance exists or soon will, because it is started or adopted."""
        self.lifetimes.began(launch.function, launch.instance, _now())

    # -- starting

    async def launch(self, awake: Awake, *, first: bool) -> StartTimes:
        """Start one more instance in the slot of `awake`; wait out a restart of node or edge. Return the phases of
        the start.

        `first`: the slot has no other live instance and no route. Then the edge adds the server while the instance
        starts. In a slot with other instances that would be too early: requests would wait for the new one, or be
        refused, instead of going to the others. A program may also wait for its TCP port then (`successor` of
        `Node.start`): only an instance on its way out can hold it, since `RevisionCheck.excludes` keeps revisions
        at the same port apart.

        Raises StartFailed, StartTimeout, Busy; NodeUnavailable or EdgeUnavailable if a restart outlasts the ready
        timeout.
        """
        deadline = _now() + awake.policy.ready_timeout
        while True:
            try:
                return await self._launch_once(awake, first=first)
            except (NodeUnavailable, EdgeUnavailable):
                # the start may have happened all the same: discard this instance and retry with a new one
                if _now() > deadline:
                    raise
                await asyncio.sleep(RETRY_SECONDS)

    async def _launch_once(self, awake: Awake, *, first: bool) -> StartTimes:
        if awake.policy.max_strict:
            await self._check_strict(awake)
        begun = time.monotonic()
        launch = self._new_launch(awake)
        self.note(launch)
        self._ended[launch.instance] = None
        adding: asyncio.Task[None] | None = None

        def add(address: str) -> None:
            nonlocal adding
            adding = self._add_server(awake, launch, address)

        asked = time.monotonic()
        try:
            running = await self._node.start(launch, add if first else None, successor=first)
            told = time.monotonic()
            self._check_start(awake, launch)  # before adding a server: the slot may be lent to another function by now
            if adding is None:
                adding = self._add_server(awake, launch, running.address)
            await adding
            self._check_start(awake, launch)
        except BaseException:
            self._tasks.spawn(f"discard {launch.instance}", self._discard(awake.slot, launch.instance, adding))
            raise
        finally:
            del self._ended[launch.instance]
        awake.servers[launch.instance] = self.live[launch.instance]
        ours = round((asked - begun + time.monotonic() - told) * 1e6)
        return running.took._replace(slot=running.took.slot + ours)

    async def _check_strict(self, awake: Awake) -> None:
        """Raise Busy unless one more instance of a function with max-strict may start. Nothing else runs between this
        and the note that the instance exists."""
        function, most = awake.function.id, awake.policy.max_replicas
        if self._permit is not None:
            await self._permit(function)
        if len(self.lifetimes.existing(function)) >= most:
            raise Busy(f"{function} has max-strict, and {most} of its instances run or are still ending")

    def _check_start(self, awake: Awake, launch: Launch) -> None:
        if awake.stage is Stage.ENDING:
            raise Busy("the function was put to sleep while this instance started")
        if (exit := self._ended[launch.instance]) is not None:
            raise StartFailed(f"{launch.function}: {exit.reason} right after it was ready")

    def _add_server(self, awake: Awake, launch: Launch, address: str) -> asyncio.Task[None]:
        server = self.live[launch.instance] = LiveServer(awake.slot, launch.instance, address, launch.concurrency)
        return asyncio.create_task(self._edge.add_server(server))

    def _new_launch(self, awake: Awake) -> Launch:
        function, policy = awake.function, awake.policy
        spec, limits = function.spec, policy.limits
        env = {"fprocess": spec.env_process, **spec.env_vars} if spec.env_process else dict(spec.env_vars)
        # log lines and `describe` show it: the function's name for readers, a random part that is never reused
        name = f"{split_id(function.id)[0][:20].rstrip('-')}-{secrets.token_hex(5)}"
        return Launch(
            instance=InstanceId(name),
            function=function.id,
            digest=function.digest,
            env=env,
            concurrency=limits.concurrency,
            exec_timeout=limits.exec_timeout,
            ready_timeout=policy.ready_timeout,
            grace=policy.grace,
            max_body=limits.max_body,
            max_response=limits.max_response,
            revision=function.revision,
            generation=function.generation,
            kind=policy.start.kind,
            command=policy.start.command,
            upstream=policy.start.upstream,
            memory_limit=limits.memory,
            cpu_limit=limits.cpu,
            max_files=limits.max_files,
            log_rate=limits.log_rate,
            secrets=tuple(dict.fromkeys(spec.secrets)),
        )

    def note_end(self, exit: Exit) -> bool:
        """Note an exit: the instance does not exist any more. Return whether it was still being started, in which case
        its start fails."""
        self.lifetimes.ended(exit.instance, _now())
        if exit.instance not in self._ended:
            return False
        self._ended[exit.instance] = exit
        return True

    # -- stopping

    async def load(self, slot: SlotName) -> SlotLoad:
        """A slot's counters; waits out a restart of the edge."""
        return await outlast(lambda: self._edge.load(slot))

    async def remove(self, slot: SlotName, instance: InstanceId, patience: float) -> None:
        """Remove an instance from its slot, wait up to `patience` seconds for its requests, and stop it."""
        self.live.pop(instance, None)
        try:
            await self._edge.remove_server(slot, instance, patience=patience)
        except EdgeUnavailable as error:
            log.warning("server %s/%s: %s", slot, instance, error)  # a restarted edge has none
        await self.stop(instance)

    async def bury(self, server: LiveServer, patience: float = BURY_SECONDS) -> None:
        """Remove an instance that is dead, or that lives and takes no more requests. The node passes the requests
        that wait in its socket on to another instance, so the socket stays until the edge has let go of it, for at
        most `patience` seconds."""
        await self.remove(server.slot, server.instance, patience)

    async def stop(self, instance: InstanceId) -> None:
        """Stop an instance; wait out a restart of its node."""
        await outlast(lambda: self._node.stop(instance))
        self.lifetimes.ended(instance, _now())

    async def _discard(self, slot: SlotName, instance: InstanceId, adding: asyncio.Task[None] | None) -> None:
        if adding is not None:  # the server must not be added after its removal
            await asyncio.gather(adding, return_exceptions=True)
        await self.remove(slot, instance, 0.0)


def _now() -> float:
    return asyncio.get_running_loop().time()
