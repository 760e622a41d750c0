"""Checks that a cluster has what an installation needs, before anything is changed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rescoldo.install.kinds import DEPLOYMENTS, kind_of
from rescoldo.install.names import CONTROL
from rescoldo.install.rendering import render
from rescoldo.install.stages import stages
from rescoldo.install.values import Values
from rescoldo.kube.errors import ClusterUnavailable, Forbidden
from rescoldo.kube.protocol import Cluster, Object, Resource
from rescoldo.kube.rights import may
from rescoldo.model.errors import NotFound

OLDEST = (1, 30)
CLASSES = Resource("storage.k8s.io", "v1", "StorageClass", "storageclasses", namespaced=False)
VOLUMES = Resource("", "v1", "PersistentVolume", "persistentvolumes", namespaced=False)
DAEMONS = Resource("apps", "v1", "DaemonSet", "daemonsets")
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
HELM_RELEASE = "meta.helm.sh/release-name"
# DaemonSets of network plugins, by the beginning of their names: whether they enforce NetworkPolicy
_PLUGINS = {
    "calico-node": True,
    "canal": True,
    "cilium": True,
    "anetd": True,  # Google's, on Cilium
    "antrea-agent": True,
    "kube-router": True,
    "ovnkube-node": True,
    "weave-net": True,
    "kube-flannel": False,
}
_UNKNOWN = "not known whether NetworkPolicies are enforced here; every door asks for credentials all the same"


class Verdict(StrEnum):
    """What a check found."""

    OK = "ok"
    WARNING = "warning"  # an installation works without
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One check, in words for people."""

    name: str
    verdict: Verdict
    text: str


async def check_cluster(cluster: Cluster, values: Values) -> list[Check]:
    """Return what a cluster has of what an installation needs; nothing more is checked where it does not answer."""
    try:
        found = [await _check_version(cluster)]
    except ClusterUnavailable as error:
        return [Check("API", Verdict.FAILED, error.message)]
    checks: Sequence[tuple[str, Callable[[Cluster, Values], Awaitable[Check]]]] = (
        ("rights", _check_rights),
        ("earlier installation", _check_earlier),
        ("storage", _check_storage),
        ("network", _check_network),
    )
    for name, check in checks:
        try:
            found.append(await check(cluster, values))
        except Forbidden as error:
            found.append(Check(name, Verdict.WARNING, f"not known: {error.message}"))
    return found


async def _check_version(cluster: Cluster) -> Check:
    text = await cluster.version()
    match = re.match(r"v?(\d+)\.(\d+)", text)
    if match and (int(match[1]), int(match[2])) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        return Check("version", Verdict.FAILED, f"Kubernetes {text} is too old: {wanted} or later is needed")
    return Check("version", Verdict.OK, f"Kubernetes {text}")


async def _check_rights(cluster: Cluster, values: Values) -> Check:
    """An installation creates and changes each of its kinds; that a role may be given, the API server checks itself."""
    objects: list[Object] = [obj for stage in stages() for obj in render(stage.objects, values)]
    places = dict.fromkeys((kind_of(obj), obj["metadata"].get("namespace", "")) for obj in objects)
    asked = [(verb, kind, namespace) for kind, namespace in places for verb in ("create", "patch")]
    answers = await asyncio.gather(*(may(cluster, verb, kind, namespace) for verb, kind, namespace in asked))
    missing = [
        f"{verb} {kind.name}{f' in {namespace}' if namespace else ''}"
        for (verb, kind, namespace), allowed in zip(asked, answers, strict=True)
        if not allowed
    ]
    if missing:
        more = f", and {len(missing) - 3} more" if len(missing) > 3 else ""
        return Check("rights", Verdict.FAILED, f"your credentials may not {', '.join(missing[:3])}{more}")
    return Check("rights", Verdict.OK, f"your credentials may make all {len(objects)} objects")


async def _check_earlier(cluster: Cluster, values: Values) -> Check:
    name = "earlier installation"
    try:
        present = await cluster.get(DEPLOYMENTS, CONTROL, values.namespace)
    except NotFound:
        return Check(name, Verdict.OK, f"none in {values.namespace}: this one is new")
    release = (present["metadata"].get("annotations") or {}).get(HELM_RELEASE)
    if release:
        return Check(name, Verdict.FAILED, f"Helm's release {release} has it: upgrade that with `helm upgrade`")
    return Check(name, Verdict.OK, f"one in {values.namespace}: this is an upgrade")


async def _check_storage(cluster: Cluster, values: Values) -> Check:
    storage = values.control.storage
    if not storage.persistent:
        return Check("storage", Verdict.WARNING, "none wanted: bundles and counts end with the pod of control")
    classes = await _all(cluster, CLASSES)
    names = [each["metadata"]["name"] for each in classes]
    default = [
        each["metadata"]["name"]
        for each in classes
        if (each["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"
    ]
    chosen = [storage.class_name] if storage.class_name else default
    if chosen and chosen[0] in names:
        return Check("storage", Verdict.OK, f"storage class {chosen[0]}")
    if not storage.class_name and any(_fits_without_class(volume) for volume in await _all(cluster, VOLUMES)):
        return Check("storage", Verdict.OK, "a volume without a class")
    problem = f"has no storage class {storage.class_name!r}" if storage.class_name else "has no default storage class"
    there = f"it has {', '.join(names)}: name one with --storage-class" if names else "it has none at all"
    remedy = "or do without: --set control.storage.persistent=false"
    return Check("storage", Verdict.FAILED, f"the cluster {problem}; {there}, {remedy}")


def _fits_without_class(volume: Object) -> bool:
    """Whether a claim that names no class may get this volume, or has it already."""
    spec, claim = volume["spec"], volume["spec"].get("claimRef") or {}
    free = (volume.get("status") or {}).get("phase") == "Available" or claim.get("name") == CONTROL
    return not spec.get("storageClassName") and free


async def _check_network(cluster: Cluster, values: Values) -> Check:
    if not values.network_policies.enabled:
        return Check("network", Verdict.WARNING, "no NetworkPolicies wanted")
    if "+k3s" in (version := await cluster.version()):
        return Check("network", Verdict.OK, f"{version} enforces NetworkPolicies")
    daemons = [each["metadata"]["name"] for each in await _all(cluster, DAEMONS)]
    known = {name: enforces for name in daemons for plugin, enforces in _PLUGINS.items() if name.startswith(plugin)}
    if enforcing := [name for name, enforces in known.items() if enforces]:
        return Check("network", Verdict.OK, f"{enforcing[0]} enforces NetworkPolicies")
    if known:
        return Check("network", Verdict.WARNING, f"{next(iter(known))} does not enforce NetworkPolicies")
    return Check("network", Verdict.WARNING, _UNKNOWN)


async def _all(cluster: Cluster, kind: Resource) -> list[Object]:
    return [obj async for page in cluster.list(kind) for obj in page.items]
