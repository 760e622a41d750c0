"""The servers of a gateway's pools as data, and the commands that turn those HAProxy has into those it should have.

A server's life: added, checked, ready; drained when its pod is being deleted; removed when its last session has ended.
A server that has sessions is never put into maintenance: HAProxy would cut them, and repeat some on another worker.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from rescoldo.edge.config import POOL
from rescoldo.model.names import POOL_DOMAIN

PoolName = NewType("PoolName", str)
MAX_ID = 0x7FFFFFFF  # HAProxy 2.8 refuses larger ids
# weight 100: each unit has 16 points on the ring. 300 functions on 3 workers were 86/94/120; with weight 1 132/68/100.
# slowstart: a new or returning worker gets its functions one after another, and their wakes do not come at once.
# fall 2: a worker whose network is cut is DOWN after at most 250 + 150 + 100 + 150 ms: a period, a check that fails
# after the connect timeout, a shorter period, a second check. down.lua ends the calls that wait for it 170 ms later.
SETTINGS = (
    "weight 100 slowstart {slowstart}ms check port {check_port} inter 250ms fastinter 100ms downinter 100ms "
    "fall 2 rise 1 observe layer4 error-limit 1 on-error fastinter"
)
# Checks stay without TLS, as they have a port of their own.
TLS_OPTIONS = "ssl verify required ca-file {authority} ssl-min-ver TLSv1.3 alpn http/1.1"
# The name that a worker's certificate must have, after what keeps connections apart: "0.blue.pool.rescoldo". HAProxy
# resumes TLS sessions with the same name, so it has no more than are needed.
NAMED = f",concat(.,txn.ns,.{POOL_DOMAIN})"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker listens; pods share no IP, but a later pod may get an earlier one's."""

    ip: str
    port: int
    check_port: int  # its metrics port, which no load can block
    tls: bool = False  # it speaks TLS at `port`


@dataclass(frozen=True, slots=True, order=True)
class ServerKey:
    """A server's name in HAProxy: `p3/worker-7d9c-x2x4z`."""

    pool: PoolName
    pod: str

    def __str__(self) -> str:
        return f"{self.pool}/{self.pod}"


@dataclass(frozen=True, slots=True)
class Server:
    """A worker that should be a server. `draining`: it finishes what it has, and gets nothing new."""

    key: ServerKey
    place: Place
    draining: bool = False


class State(StrEnum):
    """What was asked of a server, whatever its checks say."""

    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"  # in maintenance: being added, or removed


@dataclass(frozen=True, slots=True)
class Present:
    """A server that HAProxy has."""

    key: ServerKey
    id: int
    place: Place
    state: State
    ramping: bool = False  # it is up, and does not have its full weight yet


def choose_id(pod: str, taken: Collection[int]) -> int:
    """The id of a pod's server, by which HAProxy places it on the ring: the same in all gateways.

    "worker-0" has crc32 & 0x7fffffff = 1262436406.
    `taken` are the ids of the pool's other servers. Of two pods that collide the later one gets another id: gateways
    that heard of them in different orders disagree about these two until one of them is gone. One pair of 100 pods
    collides in one pool of 430,000.
    """
    number, salt = _hash(pod), 0
    while number in taken:
        salt += 1
        number = _hash(f"{pod}/{salt}")
    return number


def _hash(text: str) -> int:
    return (zlib.crc32(text.encode()) & MAX_ID) or 1


def choose_ids(wanted: Iterable[Server], have: Iterable[Present]) -> dict[ServerKey, int]:
    """The id of each server: the one that it has, else one that no other server of its pool has."""
    ids = {server.key: server.id for server in have}
    for key in sorted(server.key for server in wanted):  # in one order in all gateways, for those that are new together
        if key not in ids:
            ids[key] = choose_id(key.pod, {number for other, number in ids.items() if other.pool == key.pool})
    return ids


def server_line(place: Place, number: int, slowstart: float, authority: str) -> str:
    """A server's address and settings, the same in the file and in `add server`; `slowstart` in seconds, `authority`:
    path of the file with the certificate of the workers' authority."""
    settings = SETTINGS.format(slowstart=int(slowstart * 1000), check_port=place.check_port)
    tls = f"{TLS_OPTIONS.format(authority=authority)} sni {POOL}{NAMED}" if place.tls else f"sni {POOL}"
    return f"{place.ip}:{place.port} id {number} {settings} {tls}"


def read_servers(answer: str, pools: Collection[str]) -> list[Present]:
    """The servers of `pools` in an answer to `show servers state`."""
    # columns: 1 be_name, 2 srv_id, 3 srv_name, 4 srv_addr, 5 srv_op_state, 6 srv_admin_state, 18 srv_port,
    # 20 srv_use_ssl, 21 srv_check_port
    rows = [line.split() for line in answer.splitlines() if line and not line.startswith("#")]
    return [
        Present(
            ServerKey(PoolName(row[1]), row[3]),
            int(row[2]),
            Place(row[4], int(row[18]), int(row[21]), row[20] == "1"),
            _state(int(row[6])),
            ramping=row[5] == "1",
        )
        for row in rows
        if len(row) > 21 and row[1] in pools
    ]


def _state(flags: int) -> State:
    """Source: "srv_admin_state" in HAProxy's management guide. 0x01 is maintenance, 0x08 drain, both by the CLI."""
    if flags & 0x01:
        return State.STOPPED
    return State.DRAINING if flags & 0x08 else State.READY


Batch = tuple[str, ...]  # commands that HAProxy runs one after another


@dataclass(frozen=True, slots=True)
class Plan:
    """What changes the servers that HAProxy has into those it should have."""

    batches: tuple[Batch, ...]  # additions before drains: a pool is never without a worker in between
    leaving: frozenset[ServerKey]  # to be removed as soon as they have no sessions


def plan(have: Iterable[Present], wanted: Iterable[Server], slowstart: float, authority: str) -> Plan:
    """Compare. A pod that has another place than its server (its sandbox was made anew) waits until that is removed.
    `slowstart` and `authority`: see `server_line`."""
    servers = {server.key: server for server in have}
    wishes = {server.key: server for server in wanted}
    ids = choose_ids(wishes.values(), servers.values())
    fits = {key for key, wish in wishes.items() if key in servers and servers[key].place == wish.place}
    added = [
        _add(wish, server_line(wish.place, ids[key], slowstart, authority))
        for key, wish in sorted(wishes.items())
        if key not in servers and not wish.draining
    ]
    resumed: list[Batch] = []
    drained: list[Batch] = []
    for key, server in sorted(servers.items()):
        if key in fits and not wishes[key].draining:
            resumed += [_resume(server)] if server.state is not State.READY else []
        elif server.state is State.READY:
            drained.append((f"set server {key} state drain",))
    return Plan((*added, *resumed, *drained), frozenset(servers.keys() - fits))


def _add(server: Server, line: str) -> Batch:
    return (f"add server {server.key} {line}", *_enable(server.key))


def _enable(key: ServerKey) -> Batch:
    """HAProxy takes a server that is enabled for up until a check fails; `health down` turns that round, so that a
    worker gets no call before its first good check, at once, and ramps up after it."""
    return f"enable health {key}", f"set server {key} state ready", f"set server {key} health down"


def _resume(server: Present) -> Batch:
    """The commands that make a server ready which is stopped or drains, though its pod stays."""
    return _enable(server.key) if server.state is State.STOPPED else (f"set server {server.key} state ready",)


def read_sessions(answer: str) -> Mapping[ServerKey, int]:
    """The connections in use of each server in an answer to `show servers conn`."""
    # columns: bkname/svname bkid/svid addr port - purge_delay used_cur used_max need_est unsafe_nb safe_nb …
    rows = [line.split() for line in answer.splitlines() if line and not line.startswith("#")]
    return {ServerKey(PoolName(pool), pod): int(row[6]) for row in rows for pool, _, pod in [row[0].partition("/")]}


def remove(key: ServerKey) -> Batch:
    """The commands that remove a server without sessions. HAProxy refuses while it has idle connections: entering
    maintenance closes them, but for those that return to the pool meanwhile."""
    return f"set server {key} state maint", f"del server {key}"
