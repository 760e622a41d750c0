"""Applies an installation stage by stage, and waits for each. Doing it again is the upgrade, and the repair.

1. An object is applied by the API server (server-side apply), which keeps the fields that others own.
2. A stage's definitions and Deployments are waited for: the next stage needs them.
3. What an earlier run has left that is no longer wanted (a namespace less, no Ingress any more) is deleted at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rescoldo.install.kinds import CLAIMS, DEFINITIONS, DEPLOYMENTS, KINDS, NAMESPACES, kind_of, said
from rescoldo.install.names import INSTALL_LABEL
from rescoldo.install.problems import problems_of
from rescoldo.install.rendering import render
from rescoldo.install.stages import Stage, stages
from rescoldo.install.values import Values
from rescoldo.kube.protocol import Cluster, Object, Resource
from rescoldo.model.errors import Conflict, NotFound, RescoldoError
from rescoldo.tasks import set_within

MANAGER = "rescoldo-install"  # the field manager: control writes as another
POLL_SECONDS = 0.5
CREATED, CHANGED, UNCHANGED, REMOVED, KEPT = "created", "changed", "unchanged", "removed", "left as it is"
LASTING = (CLAIMS, DEFINITIONS, NAMESPACES)  # have a user's data below them: an upgrade never deletes one


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of an object."""

    object: str  # `deployment rescoldo/rescoldo-control`
    state: str


class NotRolledOut(RescoldoError):
    """A Deployment did not get ready in time."""


class Installation:
    """An installation in a cluster, made what `values` say. `tell` gets a line about each step."""

    def __init__(self, cluster: Cluster, values: Values, tell: Callable[[str], None], seconds: float) -> None:
        self._cluster, self._values, self._tell = cluster, values, tell
        self._seconds = seconds  # for each Deployment
        self.applied: list[Applied] = []

    async def apply(self) -> None:
        """Apply everything and wait for it. Raises NotRolledOut with what the pods say, and the API's errors."""
        wanted = [(stage, render(stage.objects, self._values)) for stage in stages()]
        for stage, objects in wanted:
            await self._apply(stage, objects)
        await self._prune([obj for _, objects in wanted for obj in objects])

    async def preview(self) -> list[Applied]:
        """Return what `apply` would create, and what it would apply again, without doing it."""
        found = []
        for stage in stages():
            for obj in render(stage.objects, self._values):
                present = await find(self._cluster, kind_of(obj), obj)
                found.append(Applied(said(obj), "would be created" if present is None else "would be applied again"))
        return found

    async def _apply(self, stage: Stage, objects: Sequence[Object]) -> None:
        before = len(self.applied)
        for obj in objects:
            self.applied.append(Applied(said(obj), await self._apply_one(obj)))
        for obj in objects:
            if kind_of(obj) == DEFINITIONS:
                await self._wait_for_definition(obj)
        for obj in objects:
            if kind_of(obj) == DEPLOYMENTS:
                await self._wait_for_deployment(obj)
        states = [each.state for each in self.applied[before:]]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        if counts:
            self._tell(f"{stage.name}: {counts}")

    async def _apply_one(self, obj: Object) -> str:
        kind = kind_of(obj)
        present = await find(self._cluster, kind, obj)
        if kind == NAMESPACES and present is not None and not is_ours(present, self._values.namespace):
            return KEPT  # somebody made it and chose its rules
        stored = await self._cluster.apply(kind, obj, MANAGER, force=True)
        if present is None:
            return CREATED
        return UNCHANGED if stored["metadata"]["resourceVersion"] == _version(present) else CHANGED

    async def _wait_for_definition(self, obj: Object) -> None:
        async for found in self._polls(obj):
            conditions = (found.get("status") or {}).get("conditions") or ()
            if any(each["type"] == "Established" and each["status"] == "True" for each in conditions):
                return
        raise NotRolledOut(f"{said(obj)}: the API server does not serve it after {self._seconds:g} s")

    async def _wait_for_deployment(self, obj: Object) -> None:
        meta, told = obj["metadata"], False
        async for found in self._polls(obj):
            if is_rolled_out(found):
                return
            if not told:
                self._tell(f"waiting for {said(obj)}")
                told = True
        problems = await problems_of(self._cluster, meta["namespace"], obj["spec"]["selector"]["matchLabels"])
        why = "".join(f"\n  {problem}" for problem in problems) or "; its pods say nothing"
        raise NotRolledOut(f"{said(obj)} is not rolled out after {self._seconds:g} s{why}")

    async def _polls(self, obj: Object) -> AsyncIterator[Object]:
        """Yield the object again and again, until the time is over."""
        kind, meta = kind_of(obj), obj["metadata"]
        loop, never = asyncio.get_running_loop(), asyncio.Event()
        ends = loop.time() + self._seconds
        while True:
            yield await self._cluster.get(kind, meta["name"], meta.get("namespace", ""))
            if loop.time() >= ends:
                return
            await set_within(never, POLL_SECONDS)

    async def _prune(self, wanted: Iterable[Object]) -> None:
        keep = {(kind_of(obj), *_place(obj)) for obj in wanted}
        async for kind, obj in belongings(self._cluster, self._values.namespace):
            if kind not in LASTING and (kind, *_place(obj)) not in keep:
                await delete(self._cluster, kind, obj)
                self.applied.append(Applied(said(obj), REMOVED))
                self._tell(f"removed {said(obj)}, which these values have not")


def is_rolled_out(deployment: Mapping[str, Any]) -> bool:
    """Return whether all pods of a Deployment are of its present template and available, and no others are left."""
    status, wanted = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return False
    counts = {status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")}
    return counts == {wanted}


def is_ours(obj: Mapping[str, Any], system: str) -> bool:
    """Return whether an object belongs to the installation in the namespace `system`."""
    return bool((obj["metadata"].get("labels") or {}).get(INSTALL_LABEL) == system)


async def find(cluster: Cluster, kind: Resource, obj: Mapping[str, Any]) -> Object | None:
    """Return an object as the API server has it; None if it does not."""
    namespace, name = _place(obj)
    try:
        return await cluster.get(kind, name, namespace)
    except NotFound:
        return None


async def belongings(cluster: Cluster, system: str) -> AsyncIterator[tuple[Resource, Object]]:
    """Yield all objects with the label of an installation, in the order in which they can go."""
    for kind in KINDS:
        try:
            found = [obj async for page in cluster.list(kind, labels=f"{INSTALL_LABEL}={system}") for obj in page.items]
        except NotFound:  # this cluster does not have the kind
            continue
        for obj in found:
            yield kind, obj


async def delete(cluster: Cluster, kind: Resource, obj: Mapping[str, Any]) -> None:
    """Delete an object that may be gone already, or made anew by somebody else."""
    namespace, name = _place(obj)
    try:
        await cluster.delete(kind, name, namespace, uid=obj["metadata"]["uid"])
    except (NotFound, Conflict):
        return


def _place(obj: Mapping[str, Any]) -> tuple[str, str]:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _version(obj: Mapping[str, Any]) -> str:
    return str(obj["metadata"]["resourceVersion"])
