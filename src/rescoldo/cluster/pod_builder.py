"""Builds in pods, in the namespace that they are for: control runs no code of packages, and has no disk for them.

A build's pod has no token and no secret but the certificate by which control knows it (build_pod.py). Through it, the
pod reads the archive of its build, and sends lines and a bundle to the desk of its build (build_desk.py); the name of
the image never comes from there. When the build is over, the desk is gone, and the certificate is good for nothing.

Limits: build.concurrent builds at once, each for build.timeoutSeconds. A pod that control could not delete (it was
killed, or the API server was away) ends at its own deadline, and goes with the next build or start of control.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

from rescoldo.bundle.builder import BuildLimits, BuildOrder, BuildReport, BuiltFiles
from rescoldo.cluster.build_desk import BuildDesk
from rescoldo.cluster.build_pod import BUILD, PODS, SELECTOR, TEMPLATE, TEMPLATES, PodState, build_objects, state_of
from rescoldo.kube.errors import Forbidden
from rescoldo.kube.follow import Changed, Follower, Gone, Snapshot
from rescoldo.kube.protocol import Cluster, Object, Resource
from rescoldo.kube.secrets import SECRETS
from rescoldo.model.errors import BuildFailed, InvalidInput, NotFound, RescoldoError
from rescoldo.model.text import one_line

BUILD_URI = "rescoldo://build/"  # then the build's id: in the certificate of its pod
DELETE_SECONDS = 10.0

log = logging.getLogger(__name__)


class PodBuilder:
    """A `Builder` in a cluster."""

    def __init__(
        self,
        cluster: Cluster,
        namespaces: Sequence[str],
        issue: Callable[[str], Mapping[str, bytes]],
        image_of: Callable[[Path], str],
        limits: BuildLimits,
        most: int,
    ) -> None:
        """`issue` makes the identity of a pod with a URI in its certificate; `image_of` reads the name of an archive's
        image; `most`: bytes of a bundle, and of a layer."""
        self.limits = limits
        self._cluster, self._namespaces = cluster, tuple(namespaces)
        self._issue, self._image_of, self._most = issue, image_of, most
        self._desks: dict[str, BuildDesk] = {}  # by build

    def check(self, namespace: str) -> None:
        if namespace not in self._namespaces:
            names = ", ".join(self._namespaces)
            raise InvalidInput(f"namespace {namespace[:80]!r} holds no functions here; use {names}")

    async def prepare(self) -> None:
        for namespace in self._namespaces:
            await self._clean(namespace)

    def desk_of(self, uris: Sequence[str]) -> BuildDesk:
        """The desk of the build that a pod's certificate names. Raises InvalidInput for any other client, and for a
        build that is over."""
        for uri in uris:
            desk = self._desks.get(uri.removeprefix(BUILD_URI)) if uri.startswith(BUILD_URI) else None
            if desk is not None:
                return desk
        raise InvalidInput("this certificate is of no build that runs")

    async def build(self, order: BuildOrder, report: BuildReport) -> BuiltFiles:
        report.name(await asyncio.to_thread(self._image_of, order.upload))
        template = await self._template(order.namespace)
        await self._clean(order.namespace)
        build = secrets.token_hex(8)
        desk = self._desks[build] = BuildDesk(order, report, self._most)
        try:
            async with self._pod(template, build, order.namespace):
                report.say(f"building in pod {order.namespace}/{TEMPLATE}-{build}")
                return await self._result(desk, build, order.namespace, report)
        finally:
            del self._desks[build]

    async def _template(self, namespace: str) -> Object:
        try:
            return await self._cluster.get(TEMPLATES, TEMPLATE, namespace)
        except (NotFound, Forbidden) as error:
            raise BuildFailed(
                f"namespace {namespace} has no PodTemplate {TEMPLATE} that control may read: this installation builds "
                "nothing (build.enabled); `rescoldo up` builds on your machine and uploads"
            ) from error

    @asynccontextmanager
    async def _pod(self, template: Object, build: str, namespace: str) -> AsyncIterator[None]:
        """A build's pod and its Secret, from creation to deletion."""
        objects = build_objects(template, build, self._issue(BUILD_URI + build))
        try:
            await self._cluster.create(SECRETS, objects.secret)
            await self._cluster.create(PODS, objects.pod)
            yield
        finally:
            # a task of its own: a build that is cancelled waits for it, too
            await asyncio.shield(asyncio.ensure_future(self._delete(objects.pod, objects.secret)))

    async def _result(self, desk: BuildDesk, build: str, namespace: str, report: BuildReport) -> BuiltFiles:
        """Wait until the bundle is here; raise BuildFailed if the pod says, or its end, that none comes."""
        following = asyncio.ensure_future(self._follow(build, namespace, report))
        try:
            await asyncio.wait((desk.built, following), return_when=asyncio.FIRST_COMPLETED)
            if not desk.built.done():
                raise BuildFailed(f"the build failed: {one_line(following.result())}")
            return desk.built.result()
        finally:
            following.cancel()
            if desk.built.done():
                desk.built.exception()  # looked at: asyncio would complain of one that nobody has
            await asyncio.wait((following,))

    async def _follow(self, build: str, namespace: str, report: BuildReport) -> str:
        """Tell what the pod waits for; return why it ended."""
        told = ""
        follower = Follower(self._cluster, PODS, state_of, namespace=namespace, labels=f"{SELECTOR},{BUILD}={build}")
        async with aclosing(follower.changes()) as changes:
            async for change in changes:
                state = _newest(change)
                if state.ended:
                    return state.ended
                if state.waiting and state.waiting != told:
                    told = state.waiting
                    report.say(one_line(told))
        raise AssertionError("a follower's changes never end")

    async def _clean(self, namespace: str) -> None:
        """Delete what builds have left that are none of those running."""
        try:
            for kind in (PODS, SECRETS):
                async for obj in self._all(kind, namespace):
                    if obj["metadata"]["labels"].get(BUILD) not in self._desks:
                        await self._cluster.delete(kind, obj["metadata"]["name"], namespace)
        except (NotFound, Forbidden):
            return  # somebody else was faster, what is left goes the next time; or nothing is built here at all
        except RescoldoError as error:
            log.warning("builds that an earlier control has left may still be in %s: %s", namespace, error.message)

    async def _all(self, kind: Resource, namespace: str) -> AsyncIterator[Object]:
        async with aclosing(self._cluster.list(kind, namespace, f"{SELECTOR},{BUILD}")) as pages:
            async for page in pages:
                for obj in page.items:
                    yield obj

    async def _delete(self, *objects: Object) -> None:
        try:
            async with asyncio.timeout(DELETE_SECONDS):
                for obj in objects:
                    kind = PODS if obj["kind"] == PODS.kind else SECRETS
                    with suppress(NotFound):
                        await self._cluster.delete(kind, obj["metadata"]["name"], obj["metadata"]["namespace"])
        except (RescoldoError, TimeoutError) as error:
            log.warning("a build's pod is left to its deadline: %s", getattr(error, "message", error))


def _newest(change: Snapshot[PodState] | Changed[PodState] | Gone) -> PodState:
    if isinstance(change, Gone):
        return PodState(ended="its pod was deleted")
    if isinstance(change, Changed):
        return change.object
    return change.objects[-1] if change.objects else PodState(ended="its pod was deleted")
