"""Decides, where no cgroup limits instances, which of them may start and which are killed for lack of memory.

A container has a limit; when it is reached, the kernel kills what it chooses, and with cgroup v2 often everything. So
a part of the limit is a reserve: when instances grow into it, all are stopped, and the one that grew most is killed. No
instance starts when it would leave less than half of the reserve besides: the platform's own use fluctuates (while a
bundle is unpacked, by some 25 MiB), which should cost no instance. Of a container of 500 MiB 50 are reserve. Instances
and the platform together have 450, and starts end at 425.

The number of instances does not matter for the reserve: memory is used when a processor writes to it, so all of them
together grow by EACH a second and processor at most, until the stop. The stop comes at the latest LATE seconds after
they have begun to use the reserve: a poll is due after SHORTEST_PAUSE, and gets a processor another 5 ms later.
With 2 processors they grow by 2 * 2 GiB * 0.01 = 41 MiB meanwhile.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

RESERVE_SHARE = 10
MOST_SHARE = 5  # of the part of the reserve that grows with the processors
LEAST_RESERVE = 32 * 2**20  # bytes
MOST_RESERVE = 512 * 2**20  # bytes
USUAL_AT_FIRST = 16 * 2**20  # bytes that an instance is expected to use until its function has shown what it uses
EACH = 2 * 2**30  # bytes a second by which use may grow on each processor; measured: about 2 GiB by one process
LATE = 0.01  # seconds between the first use of the reserve and the stop
LONGEST_PAUSE = 0.1  # seconds between two polls with room enough
SHORTEST_PAUSE = 0.003
NOISE = 4 * 2**20  # bytes by which an instance fluctuates
_KNOWN = 10_000  # functions remembered

K = TypeVar("K", bound=Hashable)


def reserve(limit: int, cpus: float) -> int:
    """Bytes of a container's `limit` that no instance may grow into: a tenth, and what instances use up on all `cpus`
    before they are stopped (at most a fifth of the limit). With 2 processors 50 MiB of 500, 40 of 200, 512 of 8192;
    with 8 of them 100 of 500, 204 of 2048."""
    until_stopped = min(int(cpus * EACH * LATE), limit // MOST_SHARE)
    return min(max(limit // RESERVE_SHARE, LEAST_RESERVE, until_stopped), MOST_RESERVE, limit // 2)


def room(limit: int, used: int, cpus: float) -> int:
    """Bytes that may still be used before the reserve; negative when a part of it is used."""
    return limit - reserve(limit, cpus) - used


def fits(limit: int, used: int, expected: int, usual: int, cpus: float) -> bool:
    """Whether an instance that usually uses `usual` bytes may start. `expected` is what instances that have begun to
    start will still take.

    used + expected + usual ≤ limit - reserve * 3/2. With 380 of 500 MiB used and two starts that will take 10 each,
    one of 16 fits: 380 + 20 + 16 = 416 ≤ 425. One of 30 does not.
    """
    return expected + usual <= room(limit, used, cpus) - reserve(limit, cpus) // 2


def pause(room_left: int, cpus: float) -> float:
    """Seconds until the next poll: at the fastest growth half of the room is used by then. With 200 MiB of room and 2
    processors 24 ms, with 1 GiB or without a limit 0.1 s."""
    return min(max(room_left / (EACH * cpus) / 2, SHORTEST_PAUSE), LONGEST_PAUSE)


@dataclass(frozen=True, slots=True)
class Use(Generic[K]):
    """Memory of one instance, in bytes."""

    instance: K
    own: int  # at least; it has no page of these in common with others
    most: int  # at most: pages that its processes share with their parents count for each
    limit: int  # 0: none
    usual: int  # `most` of instances of this function at rest


def over_limit(uses: Iterable[Use[K]]) -> list[Use[K]]:
    """The instances that exceed their own limits, by what is certainly theirs."""
    return [use for use in uses if 0 < use.limit < use.own]


def to_free(uses: Iterable[Use[K]], *, freeing: bool = False) -> Use[K] | None:
    """The instance to kill when the container runs out of memory: the one that uses most above what is usual for its
    function; None where there is none. `freeing`: others were killed, and have not freed their memory yet. Until then
    none is killed that has grown by less than NOISE.

    Not simply the largest: a model server that has used 200 MiB since it started is not what fills the container,
    but the function that usually uses 10 MiB and has come to 150. Nothing is known of a new function, so one that does
    not fit while it starts is killed rather than others that serve.
    """
    grown = (use for use in uses if not freeing or use.most - use.usual >= NOISE)
    return max(grown, key=lambda use: (use.most - use.usual, use.most), default=None)


class Usual(Generic[K]):
    """What instances of each function use at rest: the least that its latest instance used after its start.

    A function that nothing is known of is expected to need USUAL_AT_FIRST, and no more than its limit. Its limit alone
    would refuse starts that fit: the default limit is 512 MiB, and an instance takes 8.
    """

    def __init__(self) -> None:
        self._of: OrderedDict[K, int] = OrderedDict()

    def __contains__(self, function: K) -> bool:
        return function in self._of

    def of(self, function: K, limit: int) -> int:
        """Bytes that an instance of `function` is expected to use. `limit`: its memory limit, 0 for none."""
        usual = self._of.get(function, USUAL_AT_FIRST)
        return min(usual, limit) if limit else usual

    def learn(self, function: K, least: int) -> None:
        """Record the least that the latest instance of `function` has used since it is ready."""
        self._of[function] = least
        self._of.move_to_end(function)
        if len(self._of) > _KNOWN:
            self._of.popitem(last=False)
