"""The backing of a cluster's worker: functions, what they need and counts are its control's."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from rescoldo.assembly.backing import Backing, Loop
from rescoldo.bundle.protocol import Bundles
from rescoldo.edge.admin import AdminSocket
from rescoldo.edge.config import POOL_SECRETS, map_file
from rescoldo.edge.pool import PoolSecrets
from rescoldo.link.client import ControlClient
from rescoldo.link.counts import CountsOutbox
from rescoldo.link.documents import JoinedDocuments
from rescoldo.link.freshness import Freshness, FreshnessFiles
from rescoldo.link.grants import Grants
from rescoldo.link.identity import Identity
from rescoldo.link.known import KnownDocuments
from rescoldo.link.membership import Membership
from rescoldo.link.refusals import Refusals
from rescoldo.link.reports import Reports, sender_name, take_over_from
from rescoldo.link.secrets import JoinedSecrets
from rescoldo.link.store import JoinedStore
from rescoldo.link.supplies import Supplies
from rescoldo.model.errors import StoreError
from rescoldo.model.settings import Settings
from rescoldo.store.secretfiles import SecretFiles


def join(settings: Settings, url: str, bundles: Bundles) -> Backing:
    """Return the backing of a worker of the control at `url`. Raises StoreError, InvalidInput."""
    identity = None if settings.identity is None else Identity(Path(settings.identity))
    control = ControlClient(url, None if identity is None else identity.read())
    secrets = JoinedSecrets(control, SecretFiles(settings.function_secrets))
    supplies = Supplies(control, bundles, secrets, settings.max_system_body)
    known, outbox = KnownDocuments(settings.known_functions), CountsOutbox(settings.counts, control)
    sender = sender_name()
    # beside the known functions: it has to outlive this process, as the instances do
    grants = Grants(control, settings.known_functions.with_name("grants"), sender.partition("/")[0])
    try:
        grants.load()
        known.load()
        outbox.load()
        earlier = take_over_from(settings.known_functions.with_name("sender"), sender)
    except OSError as error:
        raise StoreError(f"{error.filename}: {error.strerror}") from error
    refusals = Refusals()
    documents = JoinedDocuments(control, known, settings.namespace, supplies.bring, refusals.end)
    reports = Reports(control, documents, known, refusals, sender, earlier)
    membership = Membership(documents.is_reachable, documents.ask_anew, reports, grants, refusals)
    opened = AsyncExitStack()
    opened.push_async_callback(control.close)
    opened.push_async_callback(reports.leave)
    loops: dict[str, Loop] = {"follow control": documents.run, "send counts": outbox.run}
    if identity is not None:
        loops["follow the identity"] = partial(identity.follow, control.renew)
    admin = AdminSocket(settings.admin_socket)
    if settings.max_stale is not None:
        files = FreshnessFiles(settings.confirmed_file, settings.stale_file)
        loops["watch freshness"] = Freshness(settings.max_stale, lambda: documents.unconfirmed, files, admin).run
    if settings.pool_secrets is not None:
        pool = PoolSecrets(settings.pool_secrets, admin, map_file(settings, POOL_SECRETS))
        loops["follow the pool's secrets"] = pool.run
    store = JoinedStore(documents, outbox, settings.namespace)
    return Backing(store, secrets, supplies, membership, loops=loops, opened=opened)
