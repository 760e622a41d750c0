"""Finds a real cluster and its kubectl, for tests/kubernetes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

HOME = Path.home() / ".cache/rescoldo-kubernetes"  # of the cluster that this project's developers start


def kubeconfig_path() -> Path:
    """The kubeconfig of the cluster to test with, which may not exist."""
    return Path(os.environ.get("RESCOLDO_TEST_KUBECONFIG") or HOME / "state/kubeconfig")


@dataclass(frozen=True)
class Kubectl:
    """kubectl, with the rights of a cluster's administrator."""

    kubeconfig: Path

    def __call__(self, *arguments: str, stdin: object = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run it; `stdin` may be an object."""
        text = stdin if isinstance(stdin, str) or stdin is None else json.dumps(stdin)
        command = [_program(), "--kubeconfig", str(self.kubeconfig), *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, done.stderr
        return done


def _program() -> str:
    """kubectl on PATH, or the newest that was built for the cluster."""
    return shutil.which("kubectl") or str(max(HOME.glob("v*/**/kubectl"), default=HOME / "no kubectl"))
