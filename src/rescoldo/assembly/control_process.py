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
from contextlib import AsyncExitStack
from functools import partial

import uvloop

from rescoldo.api.app import First, create_app
from rescoldo.api.credentials import Credentials
from rescoldo.api.forwarding import Forwarding
from rescoldo.api.inside import NoInside
from rescoldo.api.link import create_link
from rescoldo.api.server import MutualTls, PeerServer, serve
from rescoldo.assembly.control_parts import ControlParts, open_control
from rescoldo.cluster.columns import Columns
from rescoldo.cluster.identities import ControlIdentity, Identities
from rescoldo.cluster.owners import GatewayOwners
from rescoldo.cluster.renewals import Renewals
from rescoldo.cluster.settings import ControlSettings
from rescoldo.cluster.wishes import Wishes
from rescoldo.kube.client import find_cluster
from rescoldo.kube.protocol import Cluster
from rescoldo.model.errors import InvalidInput, RescoldoError
from rescoldo.model.messages import log_to_stderr
from rescoldo.tasks import Tasks

log = logging.getLogger(__name__)


class ControlProcess:
    """Runs control."""

    def __init__(self, settings: ControlSettings) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
        self._tasks = Tasks()

    async def run(self) -> None:
        """Serve until SIGTERM."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        async with AsyncExitStack() as opened:
            cluster = await opened.enter_async_context(find_cluster(self._settings.kubeconfig))
            opened.push_async_callback(self._tasks.close)
            await self._serve(cluster, opened)

    async def _serve(self, cluster: Cluster, opened: AsyncExitStack) -> None:
        settings = self._settings
        api_socket, link_socket = _listen(settings.api), _listen(settings.link)
        identities = Identities(cluster, settings.system, settings.namespaces, settings.identity)
        identity = await identities.prepare()
        owners = GatewayOwners(settings.gateway, lambda: identities.control_key)
        opened.push_async_callback(owners.close)
        parts = await open_control(settings, cluster, self._tasks, identities)
        opened.push_async_callback(parts.controller.end)
        link = PeerServer(create_link(parts.control_of), _tls(identity))
        self._tasks.spawn("identities", identities.run(link.renew))
        self._tasks.spawn("wishes", Wishes(parts.documents, owners, parts.save).run())
        self._tasks.spawn("changed secrets", parts.renew_secrets())
        self._tasks.spawn("renewals", Renewals(owners, parts.kept).run())
        self._tasks.spawn("columns", Columns(parts.documents, parts.columns).run())
        credentials = Credentials(identity.user, identity.password)
        first: list[First] = [_forwarding(parts, owners), NoInside]
        api = create_app(parts.platform, settings.platform, credentials, identity.payload_secret, first)
        log.info("ready: %d functions", len(parts.controller.fleet.entries))
        async with asyncio.TaskGroup() as serving:
            serving.create_task(serve(api, api_socket, self._stop))
            serving.create_task(link.serve(link_socket, self._stop))


def _forwarding(parts: ControlParts, owners: GatewayOwners) -> partial[Forwarding]:
    return partial(
        Forwarding,
        owners=owners,
        settle=parts.controller.reconciler.look_up,
        calls=parts.calls,
        is_awake=lambda function: parts.reports.awake(function) > 0,
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
    except (RescoldoError, OSError) as error:
        print(f"control: {getattr(error, 'message', error)}", file=sys.stderr)
        return os.EX_TEMPFAIL
    return 0
