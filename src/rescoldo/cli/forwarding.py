"""Reaches a cluster's gateway through the Kubernetes API, by `kubectl port-forward`.

kubectl, because it has the credentials of the same kubeconfig, and a stream protocol that our client does not speak.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, Queue

from rescoldo.cli.cluster import ClusterFlags
from rescoldo.model.errors import RescoldoError

SERVICE = "service/rescoldo-gateway"
START_SECONDS = 15.0
END_SECONDS = 5.0
_READY = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ")


class Forward:
    """A running `kubectl port-forward`."""

    def __init__(self, process: subprocess.Popen[str], lines: Queue[str]) -> None:
        self._process, self._lines = process, lines
        self.url = f"http://127.0.0.1:{self._port()}"

    def wait(self) -> None:
        """Return when it has ended: its pod or the connection is gone."""
        self._process.wait()

    def _port(self) -> str:
        said: list[str] = []
        while True:
            try:
                line = self._lines.get(timeout=START_SECONDS)
            except Empty:
                line = ""
            if found := _READY.match(line):
                return found[1]
            if not line:
                raise RescoldoError(
                    f"kubectl port-forward does not work: {' '.join(said).strip() or 'it says nothing'}"
                )
            said.append(line)


@contextmanager
def forwarded(cluster: ClusterFlags, system: str, port: int = 0) -> Iterator[Forward]:
    """Forward a port of this machine (0: any) to a gateway of the installation in the namespace `system`.

    Raises RescoldoError without kubectl, or with what it says.
    """
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise RescoldoError(
            "the gateway has no address outside of the cluster, and there is no kubectl to forward a port: install "
            "kubectl, or give the gateway an address (--set gateway.service.type=NodePort, or an Ingress)"
        )
    process = subprocess.Popen(
        [kubectl, *cluster.kubectl_flags(), "--namespace", system, "port-forward", SERVICE, f"{port}:80"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: Queue[str] = Queue(100)
    reader = threading.Thread(target=_read, args=(process, lines), name="kubectl's output", daemon=True)
    reader.start()
    try:
        yield Forward(process, lines)
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(END_SECONDS)  # its pipe has ended


def _read(process: subprocess.Popen[str], lines: Queue[str]) -> None:
    """Read all that kubectl prints, so that it never waits for a reader; keep the first lines and its end."""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if not lines.full():
                lines.put(line)
    if not lines.full():
        lines.put("")
