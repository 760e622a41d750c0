"""Starts and stops single instances, and keeps the edge's servers in step with them.

An instance comes from the node that its kind names, and is stopped there.

`live` always holds what the edge should have, set before the edge hears of it, so that a synchronisation at
any moment neither loses nor resurrects a server.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping, Set

from rescoldo.control.fleet.awake import Awake
from rescoldo.control.fleet.life import Stage
from rescoldo.control.fleet.lifetimes import Lifetimes
from rescoldo.control.fleet.outages import RETRY_SECONDS, outlast
from rescoldo.edge.protocol import Edge, LiveServer, SlotLoad
from rescoldo.kinds.protocol import NODE
from rescoldo.kinds.registry import kind_of
from rescoldo.model.coldstart import StartTimes
from rescoldo.model.errors import Busy, EdgeUnavailable, NodeUnavailable, StartFailed
from rescoldo.model.instance import Launch
from rescoldo.model.names import InstanceId, SlotName, split_id
from rescoldo.node.protocol import Exit, Node
from rescoldo.tasks import Tasks

log = logging.getLogger(__name__)

BURY_SECONDS = 1.0  # for the requests of a dead instance whose function is on its way out, too


class Instances:
    def __init__(self, nodes: Mapping[str, Node], edge: Edge, tasks: Tasks) -> None:
        self.live: dict[InstanceId, LiveServer] = {}
        self.lifetimes = Lifetimes()
        self._nodes = nodes
        self._at: dict[InstanceId, str] = {}  # the node of each instance that is not stopped yet
        self._edge = edge
        self._tasks = tasks
        self._ended: dict[InstanceId, Exit | None] = {}  # of each instance that is being started, its end if told

    @property
    def starting(self) -> Set[InstanceId]:
        """Those on their way: they may run already, and are not in `live` before the edge hears of them."""
        return self._ended.keys()

    def note(self, launch: Launch) -> None:
        """An instance exists, or soon will: it is started, or adopted."""
        self._at[launch.instance] = kind_of(launch).node
        self.lifetimes.began(launch.function, launch.instance, _now())

    def _node_of(self, instance: InstanceId) -> Node:
        """The node to ask for it. One that nobody noted is left over from before; the machine's own node had those."""
        return self._nodes[self._at.get(instance, NODE)]

    # -- starting

    async def launch(self, awake: Awake, *, first: bool) -> StartTimes:
        """Start one instance more in an awake function's slot; waits out a restart of node or edge. Return what
        the start took.

        `first`: its slot has no other, and nothing is routed there. The edge is told of it while it starts: in a slot
        with others, requests would wait for it, or be refused, instead of going to those. And whatever else there is of
        the function is on its way out.
        """
        deadline = _now() + awake.policy.ready_timeout
        while True:
            try:
                return await self._launch_once(awake, first=first)
            except (NodeUnavailable, EdgeUnavailable):
                # what was asked may have happened all the same: try with another instance, drop this one
                if _now() > deadline:
                    raise
                await asyncio.sleep(RETRY_SECONDS)

    async def _launch_once(self, awake: Awake, *, first: bool) -> StartTimes:
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
            running = await self._node_of(launch.instance).start(launch, add if first else None, successor=first)
            told = time.monotonic()
            self._check_start(awake, launch)  # before a slot that may be somebody else's by now gets a server
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
        # log lines and `describe` show it: the function's name says whose it is, the rest is never used again
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
        """Whether the instance that ended was still being started: its start fails then."""
        if exit.instance not in self._ended:
            return False
        self._ended[exit.instance] = exit
        return True

    # -- stopping

    async def load(self, slot: SlotName) -> SlotLoad:
        """A slot's counters; waits out a restart of the edge."""
        return await outlast(lambda: self._edge.load(slot))

    async def remove(self, slot: SlotName, instance: InstanceId, patience: float) -> None:
        """Take an instance out of its slot, wait up to `patience` seconds for the requests it has, and stop it."""
        self.live.pop(instance, None)
        try:
            await self._edge.remove_server(slot, instance, patience=patience)
        except EdgeUnavailable as error:
            log.warning("server %s/%s: %s", slot, instance, error)  # a restarted edge has none
        await self.stop(instance)

    async def bury(self, server: LiveServer, patience: float = BURY_SECONDS) -> None:
        """Remove an instance that is dead, or lives and takes no more requests. The node passes what waits in its
        socket on to another instance, so the socket stays until the edge has let go of it: after `patience` seconds at
        the most."""
        await self.remove(server.slot, server.instance, patience)

    async def stop(self, instance: InstanceId) -> None:
        """Stop an instance; waits out a restart of the node."""
        await outlast(lambda: self._node_of(instance).stop(instance))
        self._at.pop(instance, None)
        self.lifetimes.ended(instance, _now())

    async def _discard(self, slot: SlotName, instance: InstanceId, adding: asyncio.Task[None] | None) -> None:
        if adding is not None:
            await asyncio.gather(adding, return_exceptions=True)
        await self.remove(slot, instance, 0.0)


def _now() -> float:
    return asyncio.get_running_loop().time()
