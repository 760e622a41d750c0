"""Says why pods do not get ready, from what the API server knows of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rescoldo.kube.protocol import Cluster, Resource

PODS = Resource("", "v1", "Pod", "pods")
# an image that is not there, a container that ends: what the cluster will not mend by itself
_HINTS = {
    "ErrImageNeverPull": "the node does not have the image: load it with `rescoldo kubernetes image --load`",
    "ErrImagePull": "the node cannot pull the image: check --image and imagePullSecrets",
    "ImagePullBackOff": "the node cannot pull the image: check --image and imagePullSecrets",
    "InvalidImageName": "check --image",
}


async def problems_of(cluster: Cluster, namespace: str, labels: Mapping[str, str]) -> list[str]:
    """Return a line for each thing that keeps a pod with these labels from being ready."""
    chosen = ",".join(f"{key}={value}" for key, value in labels.items())
    pods = [pod async for page in cluster.list(PODS, namespace, chosen) for pod in page.items]
    found = [line for pod in pods for line in _of_pod(pod)]
    return list(dict.fromkeys(found)) or ([] if pods else [f"no pod exists in {namespace}; see: kubectl get events -n "
                                                            f"{namespace}"])  # fmt: skip


def _of_pod(pod: Mapping[str, Any]) -> Iterator[str]:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"pod {name}: not scheduled: {condition.get('message') or condition.get('reason', '')}"
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    for container in statuses:
        what = _of_container(container)
        if what:
            yield f"pod {name}, container {container['name']}: {what}"
    if not statuses and status.get("message"):
        yield f"pod {name}: {status['message']}"


def _of_container(status: Mapping[str, Any]) -> str:
    waiting, last = status["state"].get("waiting"), status.get("lastState", {}).get("terminated")
    if waiting:
        reason = str(waiting.get("reason", "waits"))
        if reason == "ContainerCreating":
            return "its volumes or secrets are not there yet"
        text = waiting.get("message") or _ended(last)
        return ": ".join(filter(None, (reason, text, _HINTS.get(reason))))
    if ended := status["state"].get("terminated"):
        return _ended(ended)
    if not status.get("ready"):
        return f"runs and is not ready{f'; before: {_ended(last)}' if last else ''}"
    return ""


def _ended(terminated: Mapping[str, Any] | None) -> str:
    if not terminated:
        return ""
    return f"ended with status {terminated.get('exitCode')} ({terminated.get('reason', 'no reason')})"
