"""The workers' pods, as the API server tells of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from rescoldo.gateway.config import GatewaySettings
from rescoldo.gateway.servers import Place
from rescoldo.kube.follow import Changed, Follower, Gone, Key, Snapshot
from rescoldo.kube.protocol import Cluster, Object, Resource

PODS = Resource("", "v1", "Pod", "pods")
WORKERS = "app.kubernetes.io/name=rescoldo,app.kubernetes.io/component=worker"  # labels of workers' pods
TLS_PORT = "gateways-tls"  # name of a container's port at which a worker speaks TLS
ENDED = ("Failed", "Succeeded")  # phases: evicted, for example; the object stays, and its IP may be another pod's
PATIENCE = 30.0  # seconds, see `WorkerPods.ready`


@dataclass(frozen=True, slots=True)
class Pod:
    """A worker's pod. `place` is None before it has an address, and after its containers have ended."""

    key: Key
    place: Place | None
    leaving: bool  # its deletion has begun
    tls_place: Place | None = None  # where it speaks TLS, if it does


def read_pod(obj: Object, settings: GatewaySettings) -> Pod:
    """Read a pod. kubelet tells the address when the container runs; HAProxy's checks find out when the worker answers,
    sooner than a readiness probe would."""
    meta, status = obj["metadata"], obj.get("status") or {}
    ip = "" if status.get("phase") in ENDED else status.get("podIP") or ""
    place = Place(str(ip), settings.worker_port, settings.check_port) if ip else None
    port = _tls_port(obj)
    tls_place = replace(place, port=port, tls=True) if place is not None and port else None
    return Pod(Key(meta["namespace"], meta["name"]), place, "deletionTimestamp" in meta, tls_place)


def _tls_port(obj: Object) -> int:
    """The port at which a worker speaks TLS, by its pod's spec; 0 for one that does not."""
    ports = [port for one in (obj.get("spec") or {}).get("containers", ()) for port in one.get("ports") or ()]
    return next((int(port["containerPort"]) for port in ports if port.get("name") == TLS_PORT), 0)


class WorkerPods:
    """Follows the workers' pods of some namespaces, with a list and a watch for each, which a Role allows; or those of
    all with one, which needs a ClusterRole. `news` is called for each change."""

    def __init__(
        self,
        cluster: Cluster,
        settings: GatewaySettings,
        namespaces: Collection[str],
        labels: str,
        news: Callable[[], None],
    ) -> None:
        """`namespaces`: none means all."""
        read = partial(read_pod, settings=settings)
        self._followers = {
            place: Follower(cluster, PODS, read, namespace=place, labels=labels) for place in namespaces or ("",)
        }
        self._news = news
        self._pods: dict[str, dict[Key, Pod]] = {}  # by followed namespace, once it has been read
        self._began = 0.0  # on the loop's clock: when the first of them had been read

    async def run(self) -> None:
        """Follow, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for place, follower in self._followers.items():
                tasks.create_task(self._follow(place, follower), name=f"follow pods in {place or 'all namespaces'}")

    def all(self) -> Sequence[Pod]:
        """The pods that are known."""
        return [pod for pods in self._pods.values() for pod in pods.values()]

    def unread(self) -> frozenset[str]:
        """The namespaces whose pods have not been told yet."""
        return frozenset(self._followers.keys() - self._pods.keys())

    def ready(self) -> bool:
        """Whether enough is known to change servers: everything; or a part, while the rest is not told for PATIENCE
        seconds, since one namespace without a right to its pods must not keep the others from theirs."""
        if not self._pods:
            return False
        return not self.unread() or asyncio.get_running_loop().time() - self._began > PATIENCE

    async def _follow(self, place: str, follower: Follower[Pod]) -> None:
        async with aclosing(follower.changes()) as changes:
            async for change in changes:
                if not self._pods:
                    self._began = asyncio.get_running_loop().time()
                self._pods[place] = _after(change, self._pods.get(place, {}))
                self._news()


def _after(change: Snapshot[Pod] | Changed[Pod] | Gone, pods: dict[Key, Pod]) -> dict[Key, Pod]:
    """The pods after a change."""
    if isinstance(change, Snapshot):
        return {pod.key: pod for pod in change.objects}
    if isinstance(change, Changed):
        return {**pods, change.object.key: change.object}
    return {key: pod for key, pod in pods.items() if key != Key(change.namespace, change.name)}
