"""Several nodes as one: each kind names the node that its instances come from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from itertools import chain

from rescoldo.kinds.protocol import NODE
from rescoldo.kinds.registry import kind_of
from rescoldo.model.calls import FailedCall
from rescoldo.model.instance import Launch, LogLine, RunningInstance
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.node.protocol import Exit, InstanceUsage, Node, NodeDescription, SparePool


class NodesByKind:
    """Implements `Node` over several nodes, by the names that kinds use; `NODE` must be among them.

    What concerns one instance goes to the node that its kind names. What concerns all of them, or a function, goes to
    every node, since a function's revisions may be of different kinds: so these methods raise NodeUnavailable while
    one node cannot be reached. The description and the spares are those of `NODE`.
    """

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self._home = nodes[NODE]
        self._at: dict[InstanceId, Node] = {}  # until it is stopped
        self._of: dict[FunctionId, Node] = {}  # the node of its latest instance, until it is forgotten

    async def describe(self) -> NodeDescription:
        return await self._home.describe()

    async def start(
        self, launch: Launch, on_address: Callable[[str], None] | None = None, *, successor: bool = False
    ) -> RunningInstance:
        node = self._nodes[kind_of(launch).node]
        self._note(launch, node)
        return await node.start(launch, on_address, successor=successor)

    async def stop(self, instance: InstanceId) -> None:
        node = self._at.get(instance)  # None: an earlier controller started it
        await asyncio.gather(*(one.stop(instance) for one in (self._nodes.values() if node is None else [node])))
        self._at.pop(instance, None)

    async def instances(self) -> list[RunningInstance]:
        nodes = self._nodes.values()
        found = await asyncio.gather(*(node.instances() for node in nodes))
        for node, running in zip(nodes, found, strict=True):
            for one in running:
                self._note(one.launch, node)
        return list(chain(*found))

    async def usage(self, function: FunctionId) -> list[InstanceUsage]:
        return list(chain(*await asyncio.gather(*(node.usage(function) for node in self._nodes.values()))))

    async def logs(
        self, function: FunctionId, *, tail: int | None, since: float | None, follow: bool, instance: str = ""
    ) -> AsyncIterator[LogLine]:
        # with `follow`, each node gives its own last `tail` lines, as nothing says where they end
        streams = [
            node.logs(function, tail=tail, since=since, follow=follow, instance=instance)
            for node in self._nodes.values()
        ]
        if follow:
            async with aclosing(_merged(streams)) as lines:
                async for line in lines:
                    yield line
            return
        kept = sorted([line for stream in streams async for line in stream], key=lambda line: line.timestamp)
        for line in kept[-tail:] if tail else kept if tail is None else ():
            yield line

    async def spares(self) -> SparePool:
        return await self._home.spares()

    async def explain(self, calls: Sequence[FailedCall], more: Mapping[FunctionId, int]) -> None:
        for node in self._nodes.values():
            mine = [call for call in calls if self._node_of(call.function) is node]
            others = {function: number for function, number in more.items() if self._node_of(function) is node}
            if mine or others:
                await node.explain(mine, others)

    async def failures(self, function: FunctionId) -> list[FailedCall]:
        found = chain(*await asyncio.gather(*(node.failures(function) for node in self._nodes.values())))
        return sorted(found, key=lambda call: call.at)

    async def forget(self, function: FunctionId) -> None:
        await asyncio.gather(*(node.forget(function) for node in self._nodes.values()))
        self._of.pop(function, None)

    async def watch(self, on_exit: Callable[[Exit], None], on_restart: Callable[[], None]) -> None:
        await asyncio.gather(*(node.watch(on_exit, on_restart) for node in self._nodes.values()))

    def _note(self, launch: Launch, node: Node) -> None:
        self._at[launch.instance] = self._of[launch.function] = node

    def _node_of(self, function: FunctionId) -> Node:
        return self._of.get(function, self._home)


async def _merged(streams: Sequence[AsyncIterator[LogLine]]) -> AsyncGenerator[LogLine, None]:
    """The lines of all streams as they come. Ends with the last stream, or raises what the first one raises."""
    lines: asyncio.Queue[LogLine | Exception | None] = asyncio.Queue(1)  # None: the end of one stream

    async def read(stream: AsyncIterator[LogLine]) -> None:
        try:
            async for line in stream:
                await lines.put(line)
        except Exception as error:
            await lines.put(error)
        else:
            await lines.put(None)

    readers = [asyncio.create_task(read(stream)) for stream in streams]
    try:
        left = len(readers)
        while left:
            got = await lines.get()
            if got is None:
                left -= 1
            elif isinstance(got, Exception):
                raise got
            else:
                yield got
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
