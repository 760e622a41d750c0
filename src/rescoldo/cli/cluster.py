"""The cluster that a command of `rescoldo kubernetes` works on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from rescoldo.cli.options import folded
from rescoldo.model.errors import RescoldoError

if TYPE_CHECKING:
    from rescoldo.kube.protocol import Cluster

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ClusterFlags:
    """Flags that choose a cluster."""

    kubeconfig: Path | None
    context: str

    def kubectl_flags(self) -> list[str]:
        """Return the flags by which kubectl works on the same cluster."""
        file = [] if self.kubeconfig is None else ["--kubeconfig", str(self.kubeconfig)]
        return [*file, *(["--context", self.context] if self.context else [])]

    def run(self, work: Callable[[Cluster], Awaitable[Result]]) -> Result:
        """Call `work` with the cluster, and return its result. Raises RescoldoError."""
        try:
            from rescoldo.kube.client import find_cluster
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "lightkube":
                raise
            raise RescoldoError(
                "the Kubernetes client is not installed; install it with: pip install 'rescoldo[kubernetes]'"
            ) from error

        async def connected() -> Result:
            async with find_cluster(self.kubeconfig, self.context) as cluster:
                return await work(cluster)

        return asyncio.run(connected())


cluster_options = folded(
    ClusterFlags,
    "cluster",
    click.option(
        "--kubeconfig",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="File with the cluster's address and credentials. [$KUBECONFIG or ~/.kube/config]",
    ),
    click.option("--context", default="", metavar="NAME", help="Context of the kubeconfig. [its current one]"),
)
