"""Gives an image to a cluster on this machine, by the cluster's own command."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from rescoldo.model.errors import InvalidInput, RescoldoError

SECONDS = 600.0  # for one command: kind copies the image to each of its nodes

# (archive, name of the cluster or empty) → command
LOADERS: dict[str, Callable[[Path, str], list[str]]] = {
    "kind": lambda file, name: ["kind", "load", "image-archive", str(file), *(["--name", name] if name else [])],
    "k3s": lambda file, name: ["k3s", "ctr", "images", "import", str(file)],
    "minikube": lambda file, name: ["minikube", "image", "load", str(file), *(["--profile", name] if name else [])],
    # k8s.io is the namespace of what kubelet runs
    "containerd": lambda file, name: ["ctr", "--namespace", "k8s.io", "images", "import", str(file)],
}
NAMED = ("kind", "minikube")  # those that may have several clusters


class LoadFailed(RescoldoError):
    """The image could not be loaded."""


def check(kind: str, cluster: str = "") -> None:
    """Check what can be known before there is an image. `kind` is one of LOADERS. Raises InvalidInput."""
    if cluster and kind not in NAMED:
        raise InvalidInput(f"--cluster is for --load {' and '.join(NAMED)}; {kind} has one cluster")
    program = LOADERS[kind](Path(), cluster)[0]
    if shutil.which(program) is None:
        raise InvalidInput(
            f"--load {kind} needs the command {program}, which is not on PATH: install it, or use --push or --output"
        )


def load(kind: str, archive: Path, cluster: str = "") -> None:
    """Load the archive of an image into the cluster of this `kind`. Raises InvalidInput, LoadFailed."""
    check(kind, cluster)
    command = LOADERS[kind](archive, cluster)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"`{' '.join(command)}` took longer than {SECONDS:g} s") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-1000:]
        raise LoadFailed(f"`{' '.join(command)}` failed: {said or f'exit status {done.returncode}'}")
