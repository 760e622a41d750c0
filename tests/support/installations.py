"""Installations of rescoldo in the cluster of the tests, by its own command or by Helm."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from rescoldo.cli.main import main
from rescoldo.install.values import SYSTEM
from rescoldo.model.names import DEFAULT_NAMESPACE
from support.testcluster import IMAGE, KUBECONFIG, KubectlFailed, get

# the cluster of the tests has no DNS: parts find each other by addresses that are chosen here, among those of Services
CONTROL_IP, GATEWAY_IP = "10.215.77.1", "10.215.77.2"
WAIT = "100s"  # for each part
CLUSTER = ("--kubeconfig", str(KUBECONFIG))


def values(system: str, *, image: str = IMAGE) -> dict[str, Any]:
    """The values of an installation in the cluster of the tests, which has no storage classes either."""
    control = {"ip": CONTROL_IP, "hostnames": [f"rescoldo-control.{system}.svc"]}
    gateway = {"ip": GATEWAY_IP, "hostnames": [f"rescoldo-gateway.{system}.svc"]}
    small = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}
    return {
        "image": image,
        "imagePullPolicy": "Never",
        "control": {
            "clusterIP": CONTROL_IP,
            "storage": {"persistent": False},
            "resources": small,
            "pod": {"hostAliases": [gateway]},
        },
        "gateway": {
            "service": {"type": "NodePort", "clusterIP": GATEWAY_IP},
            "resources": small,
            "agentResources": small,
            "pod": {"hostAliases": [control]},
        },
        "worker": {"resources": small, "pod": {"hostAliases": [control, gateway]}},
        "build": {"resources": small, "pod": {"hostAliases": [control]}},
    }


class Installer:
    """Runs `rescoldo kubernetes …` as a user with a home of their own."""

    def __init__(self, home: Path, system: str = SYSTEM) -> None:
        self.home, self.system = home, system
        self.values = home / "values.yaml"
        self.values.write_text(json.dumps(values(system)))

    def run(self, command: str, *flags: str) -> tuple[int, str, str]:
        """Run a command on the cluster; return its exit status and what it printed."""
        out, err = io.StringIO(), io.StringIO()
        with self._at_home(), redirect_stdout(out), redirect_stderr(err):
            status = main(["kubernetes", command, "--system-namespace", self.system, *CLUSTER, *flags])
        return status, out.getvalue(), err.getvalue()

    def install(self, *flags: str) -> dict[str, Any]:
        """Install or upgrade; return what it tells scripts."""
        status, out, err = self.run("install", "--values", str(self.values), "--timeout", WAIT, "--json", *flags)
        assert status == 0, err
        return dict(json.loads(out))

    def uninstall(self, *flags: str) -> dict[str, Any]:
        """Remove it; return what it tells scripts."""
        status, out, err = self.run("uninstall", "--yes", "--timeout", WAIT, "--json", *flags)
        assert status == 0, err
        return dict(json.loads(out))

    @contextmanager
    def _at_home(self) -> Iterator[None]:
        before = os.environ.get("HOME")
        os.environ["HOME"] = str(self.home)
        try:
            yield
        finally:
            if before is None:
                del os.environ["HOME"]
            else:
                os.environ["HOME"] = before


def is_installed() -> bool:
    """Whether the cluster has an installation already: it can have one."""
    try:
        get("deployment", "rescoldo-worker", "-n", DEFAULT_NAMESPACE)
    except KubectlFailed:
        return False
    return True
