"""The process of a cluster's control, from its start to its end.

It is the controller of a machine without node and edge (cluster/resting.py): functions are in the Kubernetes API, their
bundles and counts on its volume, and workers run them. It serves two doors: the API, which gateways hand requests to,
and the link for workers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import uvloop

from rescoldo.api.app import First, create_app
from rescoldo.api.credentials import Credentials
from rescoldo.api.forwarding import Forwarding
from rescoldo.api.inside import NoInside
from rescoldo.api.link import create_link
from rescoldo.api.server import MutualTls, PeerServer, serve
from rescoldo.assembly.control_parts import ControlParts, open_control
from rescoldo.cluster.columns import Columns
from rescoldo.cluster.finalizers import Finalizers
from rescoldo.cluster.identities import ControlIdentity, Identities
from rescoldo.cluster.lags import Lags
from rescoldo.cluster.owners import GatewayOwners
from rescoldo.cluster.pod_builder import BUILD_URI
from rescoldo.cluster.renewals import Renewals
from rescoldo.cluster.scaling import OwnersScaling
from rescoldo.cluster.settings import ControlSettings
from rescoldo.cluster.unowned import Unowned
from rescoldo.cluster.wishes import Wishes
from rescoldo.kube.client import find_cluster
from rescoldo.kube.errors import ClusterUnavailable
from rescoldo.kube.protocol import Cluster
from rescoldo.model.errors import InvalidInput, RescoldoError
from rescoldo.model.messages import log_to_stderr
from rescoldo.policy.backoff import retry_delay
from rescoldo.tasks import Tasks

log = logging.getLogger(__name__)

T = TypeVar("T")


class ControlProcess:
    """Runs control from start to end."""

    def __init__(
        self,
        settings: ControlSettings,
        find: Callable[[Path | None], AbstractAsyncContextManager[Cluster]] = find_cluster,
    ) -> None:
        """`find` connects to the cluster of a kubeconfig, or of this pod (None)."""
        self._settings = settings
        self._find = find
        self._running: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._serving = False
        self._tasks = Tasks()

    async def run(self) -> None:
        """Serve until SIGTERM."""
        self._running = asyncio.current_task()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)
        async with AsyncExitStack() as opened:
            cluster = await opened.enter_async_context(self._find(self._settings.kubeconfig))
            opened.push_async_callback(self._tasks.close)
            await self._serve(cluster, opened)

    def stop(self) -> None:
        """End, as at SIGTERM."""
        self._stop.set()
        if not self._serving and self._running is not None:  # it may wait for an API server that never answers
            self._running.cancel()

    async def _serve(self, cluster: Cluster, opened: AsyncExitStack) -> None:
        settings = self._settings
        api_socket, link_socket = _listen(settings.api), _listen(settings.link)
        for listener in (api_socket, link_socket):
            opened.callback(listener.close)
        identities = Identities(cluster, settings.system, settings.namespaces, settings.identity)
        identity = await patiently(identities.prepare)
        owners = GatewayOwners(settings.gateway, lambda: identities.control_key)
        opened.push_async_callback(owners.close)
        parts = await open_control(settings, cluster, self._tasks, identities)
        opened.push_async_callback(parts.controller.end)
        link = PeerServer(create_link(parts.control_of, parts.builder.desk_of), _tls(identity), BUILD_URI)
        self._tasks.spawn("identities", identities.run(link.renew))
        unowned = Unowned(parts.documents, owners, parts.reports)
        self._tasks.spawn("deployments without an owner", unowned.run())
        lags = Lags(parts.documents, parts.acknowledgements, parts.reports, unowned)
        self._tasks.spawn("workers that lag", lags.run())
        save = partial(parts.save, on_saved=unowned.add)
        self._tasks.spawn("wishes", Wishes(parts.documents, owners, save).run())
        finalizers = Finalizers(parts.documents, parts.acknowledgements, settings.namespaces)
        self._tasks.spawn("finalizers", finalizers.run())
        self._tasks.spawn("changed secrets", parts.renew_secrets())
        self._tasks.spawn("renewals", Renewals(owners, parts.kept).run())
        self._tasks.spawn("columns", Columns(parts.documents, parts.columns).run())
        credentials = Credentials(identity.user, identity.password)
        first: list[First] = [_forwarding(parts, owners, unowned), NoInside]
        platform = replace(parts.platform, alerted=OwnersScaling(owners))
        api = create_app(platform, settings.platform, credentials, identity.payload_secret, first)
        self._serving = True
        log.info("ready: %d functions", len(parts.controller.fleet.entries))
        async with asyncio.TaskGroup() as serving:
            serving.create_task(serve(api, api_socket, self._stop))
            serving.create_task(link.serve(link_socket, self._stop))


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Do what needs the API server, as soon as it answers. To end instead would have kubelet wait longer each time, up
    to five minutes."""
    failures = 0
    while True:
        try:
            return await work()
        except ClusterUnavailable as error:
            failures += 1
            log.warning("the API server is away: %s", error.message)
            await asyncio.sleep(retry_delay(failures))


def _forwarding(parts: ControlParts, owners: GatewayOwners, unowned: Unowned) -> partial[Forwarding]:
    return partial(
        Forwarding,
        owners=owners,
        settle=parts.controller.reconciler.look_up,
        calls=parts.calls,
        is_awake=lambda function: parts.reports.awake(function) > 0,
        on_unowned=unowned.add,
    )


def _tls(identity: ControlIdentity) -> MutualTls:
    return MutualTls(identity.certificate, identity.certificate, identity.authority)


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        return socket.create_server((host, int(port)), backlog=1024)
    except OSError as error:
        raise InvalidInput(f"{address}: {error.strerror or error}") from error


def run(settings: ControlSettings) -> int:
    """Run control until SIGTERM; return the exit status."""
    log_to_stderr("%(levelname)s %(name)s: %(message)s")
    try:
        settings.platform.run_path.mkdir(mode=0o700, parents=True, exist_ok=True)
        uvloop.run(ControlProcess(settings).run())
    except asyncio.CancelledError:
        return 0  # a signal came before it served
    except (RescoldoError, OSError) as error:
        print(f"control: {getattr(error, 'message', error)}", file=sys.stderr)
        return os.EX_TEMPFAIL
    return 0
