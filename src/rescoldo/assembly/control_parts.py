"""Wires a cluster's control from the API server and the volume."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rescoldo.api.protocol import Platform
from rescoldo.assembly.parts import Ports, assemble
from rescoldo.bundle.kept import KeptBundles
from rescoldo.cluster.acknowledgements import Acknowledgements
from rescoldo.cluster.documents import KubeDocuments
from rescoldo.cluster.grants import KeptGrants
from rescoldo.cluster.identities import Identities
from rescoldo.cluster.identities_wanted import POOL_URI
from rescoldo.cluster.pod_builder import PodBuilder
from rescoldo.cluster.pool import PoolControl
from rescoldo.cluster.reports import Reports
from rescoldo.cluster.resting import RestingEdge, RestingNode
from rescoldo.cluster.secret_changes import AcknowledgedSecrets
from rescoldo.cluster.secrets import KubeSecrets
from rescoldo.cluster.settings import ControlSettings
from rescoldo.cluster.store import ControlStore
from rescoldo.control.controller import Controller
from rescoldo.control.deploy.build_context import image_of
from rescoldo.control.observe.processes import PlatformProcess
from rescoldo.kube.protocol import Cluster
from rescoldo.link.protocol import Control
from rescoldo.model.errors import InvalidInput, RescoldoError
from rescoldo.model.function import FunctionSpec
from rescoldo.model.names import FunctionId
from rescoldo.node.processes.processes import proportional_memory
from rescoldo.store.sqlite.store import SqliteStore
from rescoldo.tasks import Tasks

log = logging.getLogger(__name__)


class OwnProcess:
    """Implements `Processes` for a control, which is one process."""

    def running(self) -> list[PlatformProcess]:
        return [PlatformProcess("control", os.getpid(), proportional_memory(os.getpid()) or 0)]


class NoReload:
    """Implements `Reload` for a control, which has no edge."""

    def __call__(self, slots: int, state: object) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class ControlParts:
    """What a control is made of. Its controller has been loaded."""

    controller: Controller
    platform: Platform
    documents: KubeDocuments
    secrets: KubeSecrets
    changes: AcknowledgedSecrets
    reports: Reports
    acknowledgements: Acknowledgements
    pools: Mapping[str, PoolControl]  # by namespace
    builder: PodBuilder

    def control_of(self, uris: Sequence[str]) -> Control:
        """The control of the namespace that a worker's certificate names. Raises InvalidInput for any other client."""
        for uri in uris:
            pool = self.pools.get(uri.removeprefix(POOL_URI)) if uri.startswith(POOL_URI) else None
            if pool is not None:
                return pool
        raise InvalidInput("this certificate is of no namespace that holds functions here")

    def calls(self, function: FunctionId) -> int:
        """The calls of a function that all workers have counted."""
        return self.controller.recorder.invocations_of(function)

    def kept(self) -> list[FunctionId]:
        """The functions that have instances without any call."""
        functions = self.controller.fleet.entries.functions()
        return [one.id for one in functions if not one.standing.paused and max(one.policy.floor, one.requested)]

    async def save(self, spec: FunctionSpec, on_saved: Callable[[FunctionId], None]) -> None:
        """Deploy without a worker: the owner takes it over once it answers. Raises as `Deployments.deploy` does."""
        await self.platform.deployments.deploy(spec, must_exist=False)
        on_saved(spec.id)

    async def renew_secrets(self) -> None:
        """Bring secrets that others change to the functions that name them, until cancelled."""
        async for namespace, name in self.secrets.changes():
            try:
                await self.changes.renew(namespace, name)
            except RescoldoError as error:
                log.warning("functions keep the old value of secret %s in %s: %s", name, namespace, error.message)

    def columns(self) -> dict[FunctionId, Mapping[str, Any]]:
        """The columns of `kubectl get functions`, of all functions."""
        return {
            one.function.id: {
                "kind": one.policy.start.kind,
                "state": str(one.state),
                "awake": one.available,
                "calls": one.invocations,
            }
            for namespace in self.pools
            for one in self.platform.statuses.functions(namespace)
        }


async def open_control(
    settings: ControlSettings, cluster: Cluster, tasks: Tasks, identities: Identities
) -> ControlParts:
    """Read what there is, and wire a control. Raises StoreError, and the errors of the API server."""
    platform = settings.platform
    documents = KubeDocuments(cluster)
    tasks.spawn("documents", documents.run())
    secrets = KubeSecrets(cluster, settings.namespaces, settings.told_secrets)
    tasks.spawn("secrets", secrets.run())
    bundles = KeptBundles(platform.bundles, platform.uploads)
    await bundles.prepare()
    database = await SqliteStore.open(platform.database, copy=platform.store_copy)
    store = ControlStore(documents, database, settings.namespaces)
    await documents.ready.wait()
    reports = Reports()
    acknowledgements = Acknowledgements(reports, documents.remind, documents.version)

    def problems() -> list[str]:
        return [*filter(None, (documents.problem, *identities.problems, *secrets.problems))]

    builder = PodBuilder(
        cluster, settings.namespaces, identities.issue, image_of, settings.builds, platform.max_system_body
    )
    node = RestingNode(settings.isolation)
    controller, platform_api = assemble(platform, _ports(node, store, secrets, bundles, reports, problems, builder))
    changes = AcknowledgedSecrets(controller.secrets, controller.spaces.users, acknowledgements, reports)
    api = replace(platform_api, secrets=changes)
    await controller.load()
    await controller.begin()
    grants = KeptGrants.open(settings.grants)
    pools = {
        namespace: PoolControl(
            namespace, documents, api.images.named, bundles, secrets, store, controller.recorder.note_saved, reports,
            grants, acknowledgements,
        )
        for namespace in settings.namespaces
    }
    return ControlParts(controller, api, documents, secrets, changes, reports, acknowledgements, pools, builder)


def _ports(
    node: RestingNode, store: ControlStore, secrets: KubeSecrets, bundles: KeptBundles, reports: Reports,
    problems: Callable[[], Sequence[str]], builder: PodBuilder,
) -> Ports:
    return Ports(
        node=node,
        edge=RestingEdge(),
        store=store,
        secrets=secrets,
        bundles=bundles,
        processes=OwnProcess(),
        reload=NoReload(),
        slots=1,
        workers=reports.awake,
        problems=problems,
        builder=builder,
    )
