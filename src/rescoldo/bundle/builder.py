"""What builds the archives of faas-cli, wherever it does so: beside the controller, or in a pod of a cluster.

`ProcessBuilder` in control/deploy/process_builder.py and `PodBuilder` in cluster/pod_builder.py implement it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class BuildLimits:
    """How many builds run at once, and how long each may take."""

    running: int = 2
    seconds: float = 900.0


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """A build that is wanted."""

    upload: Path  # the archive; the builder may remove it
    folder: Path  # of this build alone; whoever ordered it removes it
    namespace: str  # that it is for


@dataclass(frozen=True, slots=True)
class BuiltFiles:
    """What a build leaves in its folder. Nothing about them is checked yet."""

    bundle: Path
    layer: Path | None  # of its requirements


class BuildReport(Protocol):
    """Takes what a build tells while it runs."""

    def name(self, image: str) -> None:
        """Take the name of the image that the build becomes."""
        ...

    def say(self, line: str) -> None:
        """Take a line for the client."""
        ...


class Builder(Protocol):
    """Turns archives into bundles."""

    @property
    def limits(self) -> BuildLimits:
        """What whoever orders builds keeps to."""
        ...

    def check(self, namespace: str) -> None:
        """Raise InvalidInput for a namespace that it cannot build for."""
        ...

    async def prepare(self) -> None:
        """Remove what an earlier process left. Called once, at the start."""
        ...

    async def build(self, order: BuildOrder, report: BuildReport) -> BuiltFiles:
        """Build an archive. When it returns, raises or is cancelled, nothing of the build runs any more. The report
        has the image's name when it returns. Raises BuildFailed, InvalidInput and the errors of where it builds."""
        ...
