"""A cluster in memory whose Deployments are rolled out at once, but for those that a test holds back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rescoldo.install.kinds import DEFINITIONS, DEPLOYMENTS
from rescoldo.kube.fake import FakeCluster
from rescoldo.kube.protocol import MANAGER, Object, Resource

ESTABLISHED = {"status": {"conditions": [{"type": "Established", "status": "True"}]}}


class ReadyCluster(FakeCluster):
    def __init__(self) -> None:
        super().__init__()
        self.stuck: set[str] = set()  # names of Deployments that do not get ready
        self.order: list[str] = []  # kinds and names, as they were applied

    async def apply(
        self,
        resource: Resource,
        obj: Mapping[str, Any],
        manager: str = MANAGER,
        *,
        force: bool = False,
        subresource: str = "",
    ) -> Object:
        stored = await super().apply(resource, obj, manager, force=force, subresource=subresource)
        meta = obj["metadata"]
        self.order.append(f"{resource.kind} {meta['name']}")
        status = {}
        if resource == DEFINITIONS:
            status = ESTABLISHED
        elif resource == DEPLOYMENTS and meta["name"] not in self.stuck:
            wanted = obj["spec"]["replicas"]
            counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas", "readyReplicas"), wanted)
            status = {"status": counts}
        if status:
            await self.patch(resource, meta["name"], status, meta.get("namespace", ""), "controllers")
        return stored

    async def add(self, resource: Resource, name: str, namespace: str = "", **more: Any) -> Object:
        """Create an object that is not the installation's."""
        meta = {"name": name, **({"namespace": namespace} if namespace else {}), **more.pop("metadata", {})}
        return await self.create(resource, {"metadata": meta, **more}, "somebody")

    async def names(self, resource: Resource, namespace: str = "") -> list[str]:
        return [obj["metadata"]["name"] async for page in self.list(resource, namespace) for obj in page.items]


def pod(name: str, component: str, **status: Any) -> dict[str, Any]:
    """The metadata and status of a pod of ours."""
    labels = {"app.kubernetes.io/name": "rescoldo", "app.kubernetes.io/component": component}
    return {"name": name, "metadata": {"labels": labels}, "status": status}
