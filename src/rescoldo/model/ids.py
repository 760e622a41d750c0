"""The users and groups of a platform that is root. Without root there are none: everything has the user's own.

The usual ranges are above every user's. A user namespace (`hostUsers: false` in Kubernetes, a rootless container) may
map too few ids for them; then the ranges are chosen from the mapped ones. They are the same in every process of the
platform, since all of them are in one user namespace.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids of one platform. A uid and a gid of the same number are unrelated, except for `edge` and `build`."""

    edge: int  # HAProxy: its uid and its gid
    build: int  # pip or uv, and the code that packages run at their installation: uid and gid
    instances: range  # uids, one for each instance
    bundles: range  # gids, one for each bundle
    layers: range  # gids, one for each layer of requirements


# systemd's table of uids leaves 1879048192 to 2147483647 unused (systemd.io/UIDS-GIDS): so our uids cannot collide with
# a user's or a container's.
_BASE = 0x7000_0000
USUAL = Ids(
    edge=_BASE,
    build=_BASE + 1,
    instances=range(_BASE + 1_000, _BASE + 100_000),
    bundles=range(_BASE + 200_000, _BASE + 1_200_000),
    layers=range(_BASE + 1_200_000, _BASE + 2_200_000),
)
# Ids that files of a container's image may have: those of the system, of people, those that images often use (10001),
# and the highest 16-bit ids, among them nobody (65534) and the user of images without a system (65532).
_TAKEN = (range(20_000), range(60_000, 65_536))
LEAST = 1_000  # a smaller block of mapped ids is not used


def choose(uid_map: str, gid_map: str) -> Ids | None:
    """Return the ids of a platform in the user namespace with these maps (the texts of /proc/self/uid_map and gid_map,
    see user_namespaces(7)); None if they map too few.

    They are USUAL where everything is mapped, as on a machine. Otherwise they divide the largest block of ids that are
    mapped as uid and as gid and are not _TAKEN: of 0 to 65535 this is 20000 to 59999. Its first two ids are those of
    the edge and of builds; the rest is for instances; as gids, four fifths of it are for bundles: 20002 to 51999.
    """
    blocks = _common(_mapped(uid_map), _mapped(gid_map))
    if any(block.start <= USUAL.edge and USUAL.layers.stop <= block.stop for block in blocks):
        return USUAL
    block = max(_without_taken(blocks), key=len, default=range(0))
    return _divide(block) if len(block) >= LEAST else None


def _mapped(text: str) -> list[range]:
    """Return the ids inside of the namespace that a map maps; adjacent lines make one block."""
    lines = sorted((int(inside), int(count)) for inside, _, count in map(str.split, text.splitlines()))
    blocks: list[range] = []
    for inside, count in lines:
        start = blocks.pop().start if blocks and blocks[-1].stop == inside else inside
        blocks.append(range(start, inside + count))
    return blocks


def _common(some: list[range], others: list[range]) -> list[range]:
    both = (range(max(one.start, two.start), min(one.stop, two.stop)) for one in some for two in others)
    return [block for block in both if block]


def _without_taken(blocks: list[range]) -> list[range]:
    free = blocks
    for taken in _TAKEN:
        around = [range(taken.start), range(taken.stop, 2**32)]
        free = _common(free, around)
    return free


def _divide(block: range) -> Ids:
    rest = range(block.start + 2, block.stop)
    layers = rest.start + len(rest) * 4 // 5
    return Ids(
        edge=block.start,
        build=block.start + 1,
        instances=rest[: len(USUAL.instances)],
        bundles=range(rest.start, layers)[: len(USUAL.bundles)],
        layers=range(layers, rest.stop)[: len(USUAL.layers)],
    )


def _here() -> Ids | None:
    try:
        return choose(Path("/proc/self/uid_map").read_text(), Path("/proc/self/gid_map").read_text())
    except OSError:  # a kernel without user namespaces maps nothing away
        return USUAL


_CHOSEN = _here()
ARE_MAPPED = _CHOSEN is not None  # else no process can be given any of the ids below
EDGE_UID, BUILD_UID = (_CHOSEN or USUAL).edge, (_CHOSEN or USUAL).build
INSTANCE_UIDS = (_CHOSEN or USUAL).instances
BUNDLE_GIDS, LAYER_GIDS = (_CHOSEN or USUAL).bundles, (_CHOSEN or USUAL).layers
