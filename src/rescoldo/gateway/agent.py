"""Follows the workers' pods and tells the gateway's HAProxy, which goes on alone while the agent is away.

1. A pod's address appears, its deletion begins, or it is gone: the API server tells it (gateway/pods.py).
2. The files that a restarted HAProxy begins with are written (gateway/config.py).
3. HAProxy gets the difference (gateway/proxy.py), within milliseconds.

Before the first list of pods the agent changes nothing: HAProxy has the workers that an earlier agent knew. While the
API server is away the last known workers stay, and HAProxy's own checks say which of them answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from rescoldo.edge.config import KNOWN_ALL
from rescoldo.gateway.config import (
    CONTROL,
    POOLS,
    SECRETS,
    GatewaySettings,
    pool_names,
    read_authority,
    read_map,
    write_authority,
    write_map,
    write_pools,
)
from rescoldo.gateway.control_address import ControlAddress
from rescoldo.gateway.lending import Lending
from rescoldo.gateway.pods import WORKERS, WorkerPods
from rescoldo.gateway.proxy import Proxy
from rescoldo.gateway.secrets import Secrets
from rescoldo.gateway.servers import PoolName, Present, Server, ServerKey, choose_ids
from rescoldo.gateway.servers import State as ServerState
from rescoldo.kube.protocol import Cluster
from rescoldo.model.errors import EdgeUnavailable
from rescoldo.policy.backoff import retry_delay
from rescoldo.tasks import set_within

log = logging.getLogger(__name__)

LEAVING_SECONDS = 0.25  # between two attempts to remove servers whose sessions have not ended
LOOK_SECONDS = 10.0  # between two comparisons with HAProxy where nothing happened; secrets are read again, too
CHECK_SECONDS = 1.0  # a new server has passed its first check by then: 0.1 s where the worker answers
RAMP_SECONDS = 0.25  # between two looks whether servers still ramp up
# HAProxy raises weights once a second, so a ramp takes up to a second more than its time; a worker that fails and
# returns again and again must not keep a gateway away
LONGEST_RAMP = 10.0  # seconds beyond that time


@dataclass(frozen=True, slots=True)
class State:
    """What a gateway should be at a moment."""

    lent: dict[str, PoolName]
    servers: tuple[Server, ...]
    ids: dict[ServerKey, int]
    secrets: Secrets


class Agent:
    """Keeps one gateway's HAProxy as the pods are."""

    def __init__(
        self,
        settings: GatewaySettings,
        cluster: Cluster,
        proxy: Proxy,
        *,
        secrets: Callable[[], Secrets],
        namespaces: Collection[str] = (),
        labels: str = WORKERS,
    ) -> None:
        """`namespaces`: those whose pods are followed, which a Role in each allows, and which have a pool before their
        first worker comes; none: all, by a ClusterRole."""
        self._settings, self._proxy, self._secrets = settings, proxy, secrets
        self._news = asyncio.Event()
        self._control = ControlAddress(settings.control, proxy)
        self._pods = WorkerPods(cluster, settings, namespaces, labels, self._news.set)
        self._named = frozenset(namespaces)
        self._lending = Lending(pool_names(settings), read_map(settings, POOLS))
        self._have: Sequence[Present] = ()  # HAProxy's servers, when it last answered
        self._saved: State | None = None
        self._filled: float | None = None  # on the loop's clock: when a HAProxy that had no servers got some

    async def run(self) -> None:
        """Follow the pods until cancelled. Ends, with an ExceptionGroup, only for an error in this program."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pods.run(), name="follow pods")
            tasks.create_task(self._proxy.watch(self._news.set), name="watch HAProxy")
            tasks.create_task(self._keep(), name="keep HAProxy's servers")

    def _note_start(self) -> None:
        self._news.set()
        self._control.note_start()

    async def _keep(self) -> None:
        failures, problem, pause = 0, "", LOOK_SECONDS
        while True:
            await set_within(self._news, pause)
            self._news.clear()
            try:
                pause = await self._apply()
                failures, problem = 0, ""
            except (EdgeUnavailable, OSError) as error:
                failures += 1
                pause = retry_delay(failures)
                if str(error) != problem:
                    problem = str(error)
                    log.warning("HAProxy does not have the present workers: %s", problem)

    async def _apply(self) -> float:
        """Bring HAProxy to the present state; return the seconds after which more is to be done."""
        if not self._pods.ready():
            return LOOK_SECONDS
        try:
            self._have = await self._proxy.servers()
        finally:  # when HAProxy is away, it begins with the present workers
            state = self._state()
            self._save(state)
        await self._proxy.set_map(SECRETS, state.secrets.pools)
        await self._proxy.set_map(CONTROL, dict.fromkeys(state.secrets.control, "1"))
        # A pool's namespace changes before its servers do, so that no call reaches the workers of another namespace.
        whole = KNOWN_ALL in await self._proxy.map(POOLS)
        await self._proxy.set_map(POOLS, {**state.lent, **({KNOWN_ALL: "1"} if whole else {})})
        remain = await self._proxy.set_servers(state.servers)
        if whole or not state.servers or self._has_ramped():
            self._filled = None
            await self._proxy.set_map(POOLS, {**state.lent, KNOWN_ALL: "1"})
            return LEAVING_SECONDS if remain else LOOK_SECONDS
        return RAMP_SECONDS

    def _has_ramped(self) -> bool:
        """Whether a HAProxy that began without servers may take part.

        While all its servers ramp up, it chooses other workers than the gateways do whose servers have their full
        weight. A HAProxy that began with servers of the file takes part at once.
        """
        now = asyncio.get_running_loop().time()
        if self._filled is None:
            self._filled = now
        since = now - self._filled
        if since > self._settings.slowstart + LONGEST_RAMP:
            return True
        return since > CHECK_SECONDS and not any(server.ramping for server in self._have)

    def _state(self) -> State:
        tls = bool(read_authority(self._settings))
        places = [(pod, (pod.tls_place if tls else None) or pod.place) for pod in self._pods.all()]
        there = [(pod, place) for pod, place in places if place is not None]
        namespaces = {pod.key.namespace for pod, _ in there} | self._named
        lent = self._lending.lend(namespaces, {server.key.pool for server in self._have})
        servers = [
            Server(ServerKey(lent[pod.key.namespace], pod.key.name), place, pod.leaving)
            for pod, place in there
            if pod.key.namespace in lent
        ]
        untold = {lent[namespace] for namespace in self._pods.unread() if namespace in lent}
        servers += [
            Server(server.key, server.place, server.state is not ServerState.READY)
            for server in self._have
            if server.key.pool in untold  # it stays as an earlier agent has left it
        ]
        return State(lent, tuple(servers), choose_ids(servers, self._have), self._secrets())

    def _save(self, state: State) -> None:
        if state != self._saved:
            write_pools(self._settings, state.servers, state.ids)
            write_map(self._settings, SECRETS, state.secrets.pools)
            write_map(self._settings, CONTROL, dict.fromkeys(sorted(state.secrets.control), "1"))
            write_map(self._settings, POOLS, {**state.lent, KNOWN_ALL: "1"})
            self._save_authority(state.secrets.authority)
            self._saved = state

    def _save_authority(self, authority: str) -> None:
        """Keep a changed authority for the next HAProxy; one that runs trusts the one that it began with. Certificates
        of a renewed authority fit the one before."""
        if authority and read_authority(self._settings) not in ("", authority):
            log.warning(
                "the authority of workers changed; if control has made another one instead of renewing it, restart the "
                "gateways: kubectl rollout restart deployment rescoldo-gateway"
            )
            write_authority(self._settings, authority)
