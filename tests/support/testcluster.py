"""The cluster of the tests, its image of rescoldo, and what they do by kubectl."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1] / "kubernetes"
CLUSTER = HERE / "cluster/cluster"
HOME = Path(os.environ.get("RESCOLDO_KUBERNETES") or Path.home() / ".cache/rescoldo-kubernetes")  # as CLUSTER has it
KUBECONFIG = HOME / "state/kubeconfig"  # of a cluster that is up
IMAGE = "docker.io/library/rescoldo:test"


class KubectlFailed(Exception):
    """kubectl ended with an error; the text is its own."""


def cluster(*arguments: str) -> str:
    """Run the command that makes clusters; return what it prints."""
    done = subprocess.run([CLUSTER, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def is_up() -> bool:
    return subprocess.run([CLUSTER, "status"], capture_output=True, check=False).returncode == 0


def load_image(name: str = IMAGE) -> dict[str, Any]:
    """Make the image of this checkout, and give it to the node, as a user does; return what the verb says."""
    with tempfile.TemporaryDirectory(prefix="rescoldo-ctr-") as folder:
        ctr = Path(folder, "ctr")
        ctr.write_text(f'#!/bin/sh\nexec {CLUSTER} ctr "$@"\n')
        ctr.chmod(0o755)
        environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        flags = ["--base", "machine", "--name", name, "--load", "containerd", "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "rescoldo.cli", "kubernetes", "image", *flags],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))


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
