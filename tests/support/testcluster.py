"""The cluster of the tests, its image of rescoldo, and what they do by kubectl."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1] / "kubernetes"
CLUSTER = HERE / "cluster/cluster"
HOME = Path(os.environ.get("RESCOLDO_KUBERNETES") or Path.home() / ".cache/rescoldo-kubernetes")  # as CLUSTER has it
KUBECONFIG = HOME / "state/kubeconfig"  # of a cluster that is up
IMAGE = "docker.io/library/rescoldo:test"
USER = 10001  # of the image


class KubectlFailed(Exception):
    """kubectl ended with an error; the text is its own."""


def cluster(*arguments: str) -> str:
    """Run the command that makes clusters; return what it prints."""
    done = subprocess.run([CLUSTER, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def is_up() -> bool:
    return subprocess.run([CLUSTER, "status"], capture_output=True, check=False).returncode == 0


def load_image() -> None:
    """Make the image of this checkout, and give it to the node."""
    with tempfile.TemporaryDirectory(prefix="rescoldo-image-") as folder:
        subprocess.run([HERE / "rootfs", folder], check=True, stdout=subprocess.DEVNULL)
        cluster("image", IMAGE, folder, "--entrypoint", '["rescoldo"]', "--user", f"{USER}:{USER}", "--workdir", "/")


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """Run kubectl as cluster-admin; raises KubectlFailed."""
    done = subprocess.run(
        [CLUSTER, "kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=100
    )
    if done.returncode:
        raise KubectlFailed(done.stderr.strip() or done.stdout.strip())
    return done.stdout


def get(*arguments: str) -> Any:
    """Return what `kubectl get … -o json` prints."""
    return json.loads(kubectl("get", *arguments, "-o", "json"))


def apply(*objects: dict[str, Any]) -> None:
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))
