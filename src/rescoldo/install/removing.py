"""Removes an installation from a cluster, and nothing that is somebody else's.

1. Control: it would make its Secrets anew, and put its finalizer back on functions.
2. Gateways, workers, rights, policies, and the Secrets that control made.
3. Functions, unless they are kept. Nobody is left who takes finalizers off, so this does, for functions that stay, too:
   no deletion hangs.
4. What has a user's data below it: the definition of Functions, the volume, the namespaces.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from rescoldo.install.applying import belongings, delete, find, is_ours
from rescoldo.install.kinds import CLAIMS, CONFIG_MAPS, DEFINITIONS, DEPLOYMENTS, NAMESPACES, SECRETS, SERVICES, said
from rescoldo.install.names import CONTROL, FUNCTION_SECRET, INSTALL_LABEL, MADE_BY_CONTROL, NAME_LABEL, selector
from rescoldo.install.problems import PODS
from rescoldo.kube.functions import FUNCTIONS
from rescoldo.kube.protocol import Cluster, Object, Resource
from rescoldo.model.errors import NotFound, RescoldoError
from rescoldo.tasks import set_within

POLL_SECONDS = 0.5
DEFINITION = {"metadata": {"name": FUNCTIONS.name}}
OWN_FINALIZERS = "rescoldo.dev/"
# what shows that somebody else uses a namespace, but for what each namespace has
USES = (PODS, SERVICES, CLAIMS, CONFIG_MAPS, SECRETS)
EVERYWHERE = {"kube-root-ca.crt", "openshift-service-ca.crt"}

Belonging = tuple[Resource, Object]


@dataclass(frozen=True, slots=True)
class Keeping:
    """What an uninstallation leaves. Namespaces stay with what is kept in them."""

    functions: bool = False  # Functions with their definition and their Secrets
    data: bool = False  # control's volume: bundles and counts


@dataclass(slots=True)
class Plan:
    """What is deleted, in this order, and what stays."""

    parts: list[Belonging] = field(default_factory=list)
    secrets: list[Belonging] = field(default_factory=list)
    functions: list[Belonging] = field(default_factory=list)
    lasting: list[Belonging] = field(default_factory=list)
    released: list[Belonging] = field(default_factory=list)  # functions that stay, without finalizers of ours
    kept: list[str] = field(default_factory=list)  # lines with the reasons

    @property
    def deleted(self) -> list[Belonging]:
        """All that is deleted."""
        return [*self.parts, *self.secrets, *self.functions, *self.lasting]


class StillThere(RescoldoError):
    """What was deleted did not go in time."""


class Removal:
    """The removal of the installation in the namespace `system`. `tell` gets a line about each step."""

    def __init__(
        self, cluster: Cluster, system: str, keeping: Keeping, tell: Callable[[str], None], seconds: float
    ) -> None:
        self._cluster, self._system, self._keeping, self._tell = cluster, system, keeping, tell
        self._seconds = seconds  # for each step

    async def plan(self) -> Plan:
        """Look what there is, and return what `run` is to do about it. Changes nothing."""
        plan = Plan()
        own = [each async for each in belongings(self._cluster, self._system)]
        lasting = [each for each in own if each[0] in (CLAIMS, NAMESPACES)]
        plan.parts = [each for each in own if each not in lasting]
        spaces = _spaces(own, self._system)
        await self._plan_secrets(plan, spaces)
        await self._plan_functions(plan, spaces)
        await self._plan_lasting(plan, lasting)
        return plan

    async def run(self, plan: Plan) -> None:
        """Do what a plan says. Raises StillThere, and the API's errors."""
        control = [each for each in plan.parts if _is_control(each)]
        await self._delete(control)
        await self._wait("the end of control", self._control_is_gone)
        await self._delete([each for each in plan.parts if each not in control])
        await self._delete(plan.secrets)
        for _, obj in (*plan.functions, *plan.released):
            await self._release(obj)
        await self._delete(plan.functions)
        await self._delete(plan.lasting)
        for kind, obj in plan.deleted:
            await self._wait(f"the end of {said(obj)}", partial(self._is_gone, kind, obj))
        if plan.parts:
            await self._wait("the end of all pods, which finish their calls", self._pods_are_gone)

    async def _plan_secrets(self, plan: Plan, spaces: Sequence[str]) -> None:
        for space in (self._system, *spaces):
            plan.secrets += [(SECRETS, obj) async for obj in self._all(SECRETS, space, MADE_BY_CONTROL)]
            async for obj in self._all(SECRETS, space, FUNCTION_SECRET):
                if self._keeping.functions:
                    plan.kept.append(f"{said(obj)}: a secret of functions")
                else:
                    plan.secrets.append((SECRETS, obj))

    async def _plan_functions(self, plan: Plan, spaces: Sequence[str]) -> None:
        found = [(FUNCTIONS, obj) for space in spaces async for obj in self._all(FUNCTIONS, space)]
        if self._keeping.functions:
            plan.released = found
            plan.kept += [f"{said(obj)}: functions are kept" for _, obj in found]
        else:
            plan.functions = found

    async def _plan_lasting(self, plan: Plan, lasting: Sequence[Belonging]) -> None:
        definition = await find(self._cluster, DEFINITIONS, DEFINITION)
        if definition is not None:
            other = await self._other_user(plan)
            if other:
                plan.kept.append(f"{said(definition)}: {other}")
            else:
                plan.lasting.append((DEFINITIONS, definition))
        for kind, obj in lasting:
            reason = await self._reason_to_keep(plan, kind, obj)
            if reason:
                plan.kept.append(f"{said(obj)}: {reason}")
            else:
                plan.lasting.append((kind, obj))

    async def _other_user(self, plan: Plan) -> str:
        """Return who else needs the definition of Functions; empty for nobody."""
        if self._keeping.functions:
            return "functions are kept"
        labels = ",".join(f"{key}={value}" for key, value in selector("control").items())
        async for obj in self._all(DEPLOYMENTS, "", labels):
            if not is_ours(obj, self._system):
                return f"{said(obj)} is another installation"
        going = {_key(obj) for _, obj in plan.functions}
        async for obj in self._all(FUNCTIONS, ""):
            if _key(obj) not in going:
                return f"{said(obj)} is not of this installation"
        return ""

    async def _reason_to_keep(self, plan: Plan, kind: Resource, obj: Object) -> str:
        if kind == CLAIMS:
            return "data is kept" if self._keeping.data else ""
        name = obj["metadata"]["name"]
        if name == self._system and self._keeping.data:
            return "data is kept"
        if name != self._system and self._keeping.functions:
            return "functions are kept"
        going = {(each, *_key(other)) for each, other in plan.deleted}
        for use in USES:
            async for other in self._all(use, name):
                if (use, *_key(other)) not in going and not _is_nobodys(other):
                    return f"{said(other)} is somebody else's"
        return ""

    async def _delete(self, doomed: Sequence[Belonging]) -> None:
        for kind, obj in doomed:
            await delete(self._cluster, kind, obj)
            self._tell(f"deleted {said(obj)}")

    async def _release(self, function: Object) -> None:
        """Take our finalizers off a function, so that its deletion needs nobody."""
        meta = function["metadata"]
        others = [each for each in meta.get("finalizers") or () if not each.startswith(OWN_FINALIZERS)]
        if others != list(meta.get("finalizers") or ()):
            try:
                await self._cluster.patch(
                    FUNCTIONS, meta["name"], {"metadata": {"finalizers": others or None}}, meta["namespace"]
                )
            except NotFound:
                return

    async def _control_is_gone(self) -> bool:
        labels = ",".join(f"{key}={value}" for key, value in selector("control").items())
        return not [pod async for pod in self._all(PODS, self._system, labels)]

    async def _pods_are_gone(self) -> bool:
        return not [pod async for pod in self._all(PODS, "", f"{INSTALL_LABEL}={self._system}")]

    async def _is_gone(self, kind: Resource, obj: Object) -> bool:
        present = await find(self._cluster, kind, obj)
        return present is None or present["metadata"]["uid"] != obj["metadata"]["uid"]

    async def _wait(self, what: str, is_so: Callable[[], Awaitable[bool]]) -> None:
        loop, never = asyncio.get_running_loop(), asyncio.Event()
        ends = loop.time() + self._seconds
        while not await is_so():
            if loop.time() >= ends:
                raise StillThere(f"waited {self._seconds:g} s for {what}; look at it with kubectl, then run this again")
            await set_within(never, POLL_SECONDS)

    async def _all(self, kind: Resource, namespace: str, labels: str = "") -> AsyncIterator[Object]:
        try:
            found = [obj async for page in self._cluster.list(kind, namespace, labels) for obj in page.items]
        except NotFound:  # the cluster no longer has the kind
            return
        for obj in found:
            yield obj


def _spaces(own: Sequence[Belonging], system: str) -> list[str]:
    """Return the namespaces of functions of an installation, which a kept one shows by its own label."""
    named = [
        obj["metadata"]["name"] if kind == NAMESPACES else obj["metadata"].get("namespace", "") for kind, obj in own
    ]
    return sorted({name for name in named if name} - {system})


def _is_control(belonging: Belonging) -> bool:
    kind, obj = belonging
    return kind == DEPLOYMENTS and obj["metadata"]["name"] == CONTROL


def _is_nobodys(obj: Object) -> bool:
    """Return whether an object that is not deleted itself goes with one that is, or is in each namespace."""
    meta = obj["metadata"]
    labels = meta.get("labels") or {}
    ours = labels.get(NAME_LABEL) == "rescoldo" or bool(meta.get("ownerReferences"))
    return ours or meta["name"] in EVERYWHERE


def _key(obj: Object) -> tuple[str, str]:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]
