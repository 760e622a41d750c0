"""Programs that have left their TCP port, where programs share an address.

A program that lives on without a listening socket would refuse requests for ever. So the node polls its port; a
program that restarts its own server has LEFT_SECONDS to listen again. (Requests in the stand-in reveal a program
that has its port to itself: see deaf.py.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from rescoldo.model.names import InstanceId
from rescoldo.node.instances.stopped import MOST_LOOKS, due
from rescoldo.node.instances.supervised import Supervised
from rescoldo.node.sockets.probe import is_free

LOOK_SECONDS = 1.0  # seconds between polls; each looks at the programs that are `due`, about 10 µs each
LEFT_SECONDS = 2.0


async def report_left(programs: Callable[[], Sequence[Supervised]], on_left: Callable[[Supervised], None]) -> None:
    """Call `on_left` with each of the `programs` whose TCP port has had no listener for LEFT_SECONDS, until
    cancelled."""
    clock = asyncio.get_running_loop().time
    since: dict[InstanceId, float] = {}
    turn = 0
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        all_of_them, now = programs(), clock()
        there = {one.note.launch.instance for one in all_of_them}
        since = {instance: begin for instance, begin in since.items() if instance in there}
        for program in due(all_of_them, turn):
            instance, where = program.note.launch.instance, program.endpoint.tcp
            if where is None or not is_free(where):
                since.pop(instance, None)
            elif now - since.setdefault(instance, now) >= LEFT_SECONDS:
                on_left(program)
        turn += MOST_LOOKS
