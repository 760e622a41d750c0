"""What the parts of an installation do at this moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rescoldo.install.kinds import DEPLOYMENTS
from rescoldo.install.names import COMPONENT_LABEL, INSTALL_LABEL
from rescoldo.install.problems import problems_of
from rescoldo.kube.protocol import Cluster


@dataclass(frozen=True, slots=True)
class Part:
    """A Deployment of an installation."""

    component: str  # control, worker, gateway
    namespace: str
    ready: int  # pods
    wanted: int
    image: str
    problems: tuple[str, ...]  # of pods that are not ready

    @property
    def is_ready(self) -> bool:
        """Whether all pods are ready, and of the present template."""
        return self.ready == self.wanted and not self.problems

    def to_json(self) -> dict[str, object]:
        """Return everything but the problems."""
        return {
            "component": self.component,
            "namespace": self.namespace,
            "ready": self.ready,
            "wanted": self.wanted,
            "image": self.image,
        }


async def parts_of(cluster: Cluster, system: str) -> list[Part]:
    """Return the parts of the installation in the namespace `system`: control, gateways, then workers."""
    labels = f"{INSTALL_LABEL}={system}"
    found = [obj async for page in cluster.list(DEPLOYMENTS, labels=labels) for obj in page.items]
    parts = [await _part(cluster, obj) for obj in found]
    return sorted(parts, key=lambda part: (part.namespace != system, part.component, part.namespace))


async def _part(cluster: Cluster, deployment: Mapping[str, Any]) -> Part:
    meta, spec, status = deployment["metadata"], deployment["spec"], deployment.get("status") or {}
    ready, wanted = status.get("readyReplicas", 0), spec.get("replicas", 1)
    chosen = spec["selector"]["matchLabels"]
    rolling = status.get("updatedReplicas", 0) < wanted
    problems = await problems_of(cluster, meta["namespace"], chosen) if ready < wanted or rolling else []
    return Part(
        component=meta["labels"][COMPONENT_LABEL],
        namespace=meta["namespace"],
        ready=ready,
        wanted=wanted,
        image=spec["template"]["spec"]["containers"][0]["image"],
        problems=tuple(problems),
    )
