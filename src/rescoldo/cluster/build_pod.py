"""A build's pod: the objects that it is made of, and what its status says.

The installation has a PodTemplate in each namespace of functions, which says all about such pods: image, resources,
security, where they run. A build adds its name, and a Secret with a certificate that names the build. Both are owned by
the template: whoever removes that removes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rescoldo.kube.protocol import Object, Resource
from rescoldo.kube.secrets import secret_object

PODS = Resource("", "v1", "Pod", "pods")
TEMPLATES = Resource("", "v1", "PodTemplate", "podtemplates")
TEMPLATE = "rescoldo-build"  # its name
IDENTITY = "identity"  # its volume for the Secret
BUILD = "rescoldo.dev/build"  # label: the build's id
SELECTOR = "app.kubernetes.io/name=rescoldo,app.kubernetes.io/component=build"  # of Pods and Secrets of builds
# what a pod waits for that somebody has to mend; others pass by themselves
_STUCK = ("ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerError")


@dataclass(frozen=True, slots=True)
class BuildObjects:
    """What a build creates, in this order."""

    secret: Object = field(repr=False)
    pod: Object


def build_objects(template: Object, build: str, identity: Mapping[str, bytes]) -> BuildObjects:
    """Make the objects of `build` from the template of its namespace."""
    meta, pod = template["metadata"], template["template"]
    name = f"{TEMPLATE}-{build}"
    labels = {**pod["metadata"]["labels"], BUILD: build}
    owner = {"apiVersion": TEMPLATES.api_version, "kind": TEMPLATES.kind, "name": meta["name"], "uid": meta["uid"]}
    secret = secret_object(name, meta["namespace"], identity, labels)
    secret["metadata"]["ownerReferences"] = [owner]
    about = {
        "name": name,
        "namespace": meta["namespace"],
        "labels": labels,
        "annotations": dict(pod["metadata"].get("annotations") or {}),
        "ownerReferences": [owner],
    }
    spec = {**pod["spec"], "volumes": [_with_secret(volume, name) for volume in pod["spec"].get("volumes") or ()]}
    return BuildObjects(secret, {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec})


def _with_secret(volume: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return {**volume, "secret": {**volume["secret"], "secretName": name}} if volume["name"] == IDENTITY else volume


@dataclass(frozen=True, slots=True)
class PodState:
    """What the API server knows of a build's pod."""

    ended: str = ""  # why no more can come from it; empty: it runs, or will
    waiting: str = ""  # what keeps it from running


def state_of(pod: Object) -> PodState:
    """Read the state of a build's pod."""
    status = pod.get("status") or {}
    containers: Sequence[Mapping[str, Any]] = status.get("containerStatuses") or ()
    if status.get("phase") in ("Failed", "Succeeded"):
        return PodState(ended=_end(status, containers))
    if "deletionTimestamp" in pod["metadata"]:
        return PodState(ended="its pod was deleted")
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return PodState(waiting=f"its pod is not scheduled: {condition.get('message', '')}")
    for container in containers:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _STUCK:
            return PodState(waiting=f"its pod waits: {waiting['reason']}: {waiting.get('message', '')}")
    return PodState()


def _end(status: Mapping[str, Any], containers: Sequence[Mapping[str, Any]]) -> str:
    if status.get("reason") == "DeadlineExceeded":
        return "its pod took longer than build.timeoutSeconds allows"
    if status.get("reason") == "Evicted":
        return f"its pod was evicted: {status.get('message', '')}"
    ended: Mapping[str, Any] = {}
    for container in containers:
        ended = (container.get("state") or {}).get("terminated") or {}
    if ended.get("reason") == "OOMKilled":
        return "it needs more memory than build.resources gives its pod"
    message = str(ended.get("message") or status.get("message") or "").strip()
    return f"its pod ended with status {ended.get('exitCode')}" + (f": {message}" if message else "")
