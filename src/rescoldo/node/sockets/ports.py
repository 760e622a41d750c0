"""TCP ports of programs: a start waits until it can have its port, and a program that has left it is noticed.

Behind the network fence each instance has an address of its own. Elsewhere all are at 127.0.0.1: an instance can start
when the one before it has let the port go, and that one may still answer calls, or take its grace to end.

A program that lives on without a listening socket would refuse requests for ever. So the node asks again and again
whether somebody listens at its port; a program that restarts its own server has LEFT_SECONDS for it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence

from rescoldo.model.errors import StartFailed, StartTimeout
from rescoldo.model.instance import Launch
from rescoldo.model.names import InstanceId
from rescoldo.node.instances.stopped import MOST_LOOKS, due
from rescoldo.node.instances.supervised import Supervised
from rescoldo.node.sockets.addresses import SHARED, tcp_address
from rescoldo.node.sockets.probe import accepts, is_free

LOOK_SECONDS = 1.0  # of that many programs (`due`), about 10 µs each
LEFT_SECONDS = 2.0
DYING_SECONDS = 0.5  # a process that was killed has its sockets for a moment more
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.02  # seconds between two looks; the pauses double


def predecessors(launch: Launch, address: str, others: Iterable[Supervised], *, successor: bool) -> list[Supervised]:
    """Those of `others` that are at `address` and on their way out. Raises StartFailed where one stays.

    `successor`: of the function nothing else is to stay, so each other instance of it is on its way out, whether or not
    the node has been told.
    """
    found = [other for other in others if launch.port and other.note.address == address]
    for other in found:
        function = other.note.launch.function
        if not other.is_leaving and not (successor and function == launch.function):
            raise StartFailed(
                f"{launch.function}: another instance has port {launch.port} (of {function}), and all programs share "
                f"{SHARED} here (the network fence is not up: it needs root and Linux 5.12 with cgroup v2): give each "
                "function a port of its own and one instance, or use `upstream_url: inherited`"
            )
    return found


async def until_free(launch: Launch, address: str, before: Sequence[Supervised]) -> float:
    """Wait until the program of `launch` can bind its port at `address`, which instances `before` it may have; return
    how many seconds that took. Raises StartFailed where the port is somebody else's: the program would seem to be
    ready, and its requests would reach them. Raises StartTimeout after the ready timeout."""
    if (where := tcp_address(address)) is None:
        return 0.0
    clock = asyncio.get_running_loop().time
    begun = theirs_until = clock()
    pause = _FIRST_PAUSE
    while not _is_free(where, before):
        if any(one.may_listen for one in before):
            theirs_until = clock()
            if theirs_until - begun > launch.ready_timeout:
                raise StartTimeout(
                    f"{launch.function}: the instance before still has port {launch.port} after "
                    f"{launch.ready_timeout:g} s: calls that began in it may last for exec_timeout, and its end takes "
                    "rescoldo.dev/grace; make those shorter, or use `upstream_url: inherited`"
                )
        elif clock() - theirs_until > DYING_SECONDS:
            _refuse_strangers(launch, where)
            break  # taken, and nobody accepts: the program itself says what is wrong
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return clock() - begun


def _is_free(where: tuple[str, int], before: Sequence[Supervised]) -> bool:
    """Whether nobody has the port, nor will have it: one that is stopped while it starts may bind it yet."""
    return is_free(where) and not any(one.may_listen and not one.note.ready for one in before)


def _refuse_strangers(launch: Launch, where: tuple[str, int]) -> None:
    if accepts(socket.AF_INET, where):
        raise StartFailed(
            f"{launch.function}: port {launch.port} is taken by a process of this machine that listens on it at "
            f"{where[0]} or at all addresses; choose another port in upstream_url, or end that process"
        )


async def tell_left(programs: Callable[[], Sequence[Supervised]], on_left: Callable[[Supervised], None]) -> None:
    """Call `on_left` with each of the `programs` at whose TCP port nobody has listened for LEFT_SECONDS, until
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
            instance, where = program.note.launch.instance, tcp_address(program.note.address)
            if where is None or not is_free(where):
                since.pop(instance, None)
            elif now - since.setdefault(instance, now) >= LEFT_SECONDS:
                on_left(program)
        turn += MOST_LOOKS
