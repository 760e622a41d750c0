"""Platforms in single pods."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from support.gateway import Gateway
from support.testcluster import IMAGE, KubectlFailed, apply, get, kubectl

PORT = 8080
# what Pod Security "restricted" wants, and a read-only root file system
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
DATA = "/data"  # a volume of root's
SERVE = ("serve", "--data", DATA, "--gateway-address", f"0.0.0.0:{PORT}", "--metrics-address", "0.0.0.0:8082")


def pod(
    namespace: str,
    name: str,
    *flags: str,
    security: Mapping[str, Any] = RESTRICTED,
    memory: str = "1Gi",
    spec: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A pod that runs `rescoldo serve` with `flags`; `spec` has more of the pod's specification."""
    container = {
        "name": "rescoldo",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "args": [*SERVE, *flags],
        "resources": {"requests": {"cpu": "500m", "memory": "128Mi"}, "limits": {"memory": memory}},
        "securityContext": dict(security),
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "containers": [container],
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 60,
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
            **(spec or {}),
        },
    }  # fmt: skip


class PodPlatform(Gateway):
    """A platform in a pod of its own; it is reached at the pod's address."""

    port = PORT

    def __init__(self, manifest: dict[str, Any]) -> None:
        self.manifest = manifest
        self.name = manifest["metadata"]["name"]
        self.namespace = manifest["metadata"]["namespace"]
        self.folder = Path(tempfile.mkdtemp(prefix="rl-pod-"))
        self._login: tuple[str, str] | None = None

    def __enter__(self) -> PodPlatform:
        apply(self.manifest)
        self.until(lambda: self.status().get("podIP"), f"an address of pod {self.name}")
        self.host = self.status()["podIP"]
        self.until(self.answers, f"the platform in pod {self.name}")
        return self

    def __exit__(self, *_: object) -> None:
        self.delete("--grace-period=0", "--force")
        shutil.rmtree(self.folder, ignore_errors=True)

    def status(self) -> dict[str, Any]:
        return dict(get("pod", self.name, "-n", self.namespace)["status"])

    def ended(self) -> dict[str, Any] | None:
        """How its container ended: exitCode, reason, …; None while it runs."""
        states = self.status().get("containerStatuses", [])
        return states[0]["state"].get("terminated") if states else None

    def restarts(self) -> int:
        return int(self.status()["containerStatuses"][0]["restartCount"])

    def answers(self) -> bool:
        assert self.ended() is None, f"the platform in pod {self.name} ended:\n{self.log()}"
        try:
            return self.call("GET", "/healthz", timeout=2).status == 200
        except OSError:
            return False

    def delete(self, *flags: str) -> None:
        with suppress(KubectlFailed):  # it is gone
            kubectl("delete", "pod", self.name, "-n", self.namespace, "--wait=true", *flags)

    def log(self) -> str:
        try:
            return kubectl("logs", self.name, "-n", self.namespace)
        except KubectlFailed as error:
            return str(error)

    def run(self, *command: str) -> str:
        """Run a command in its container."""
        return kubectl("exec", self.name, "-n", self.namespace, "--", *command)

    def login(self) -> tuple[str, str]:
        if self._login is None:
            user, password = (self.run("sh", "-c", f"cat $(find /data -name basic-auth-{part})") for part in
                              ("user", "password"))  # fmt: skip
            self._login = user.strip(), password.strip()
        return self._login

    def platform_status(self) -> dict[str, Any]:
        """What `rescoldo status` says."""
        return dict(json.loads(self.run("rescoldo", "status", "--data", DATA, "--json")))

    def pid(self, part: str) -> str:
        """The pid of a process of the platform, in its container."""
        return str(next(p["pid"] for p in self.platform_status()["processes"] if p["name"] == part))


def until_gone(platform: PodPlatform, seconds: float = 60.0) -> None:
    """Wait until the pod does not exist any more."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            get("pod", platform.name, "-n", platform.namespace)
        except KubectlFailed:
            return
    raise AssertionError(f"pod {platform.name} is still there after {seconds:g} s")

