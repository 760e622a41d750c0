"""Measures bare Pods: what a cold start costs without us."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import Any

import client
from paths import BENCH
from rescoldo.gateway.pods import PODS
from rescoldo.image.bases import MINOR
from rescoldo.kube.client import LightkubeCluster, find_cluster
from rows import MeasurementFailed
from support.pods import RESTRICTED
from support.testcluster import IMAGE, KUBECONFIG

PORT = 8000
NAMESPACE = "default"
LONGEST = 30.0  # seconds until a pod answers


def first_answers(count: int) -> list[float]:
    """Start Pods one after another; return the seconds of each from the request that creates it to the last byte of its
    first response. Nothing is pulled, no Deployment and no token is made, no readiness probe waited for."""
    return asyncio.run(_first_answers(count))


async def _first_answers(count: int) -> list[float]:
    async with find_cluster(KUBECONFIG) as cluster:
        return [await _first_answer(cluster, f"bench-bare-{number}") for number in range(count)]


async def _first_answer(cluster: LightkubeCluster, name: str) -> float:
    begin = time.perf_counter()
    try:
        made = await cluster.create(PODS, _pod(name))
        ip = await _address(cluster, name, made["metadata"]["resourceVersion"])
        while True:
            try:
                client.get(PORT, "/", ip)
                return time.perf_counter() - begin
            except ConnectionRefusedError:  # retry at once: a pause would add to the measured time
                if time.perf_counter() - begin > LONGEST:
                    raise MeasurementFailed(f"pod {name} does not answer") from None
    finally:
        await cluster.delete(PODS, name, NAMESPACE)


async def _address(cluster: LightkubeCluster, name: str, version: str) -> str:
    async with asyncio.timeout(LONGEST), aclosing(cluster.watch(PODS, version, NAMESPACE)) as events:
        async for event in events:
            meta, status = event.object.get("metadata", {}), event.object.get("status", {})
            if meta.get("name") == name and status.get("podIP"):
                return str(status["podIP"])
    raise MeasurementFailed(f"pod {name} got no address")


def _pod(name: str) -> dict[str, Any]:
    program = [f"python{MINOR}", "-c", (BENCH / "stdlib_server.py").read_text(), str(PORT), "0.0.0.0"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "containers": [
                {
                    "name": "server",
                    "image": IMAGE,
                    "imagePullPolicy": "Never",
                    "command": program,
                    "securityContext": RESTRICTED,
                }
            ],
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
        },
    }
