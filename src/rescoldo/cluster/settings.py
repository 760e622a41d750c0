"""The settings of a cluster's control."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rescoldo.bundle.builder import BuildLimits
from rescoldo.model.settings import Settings


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """`platform` has those that it shares with the platform of one machine: data and run folder, and what functions
    get by default. Its database and bundles are below the data folder."""

    platform: Settings
    system: str  # its namespace
    namespaces: tuple[str, ...]  # that hold functions
    gateway: str  # URL of the gateways' Service
    api: str = "0.0.0.0:8080"  # HOST:PORT for gateways
    link: str = "0.0.0.0:8443"  # HOST:PORT for workers
    kubeconfig: Path | None = None  # None: as a pod's service account
    isolation: str = "unprivileged"  # the level of its workers
    builds: BuildLimits = field(default_factory=BuildLimits)

    @property
    def grants(self) -> Path:
        """Who may run functions with max-strict."""
        return self.platform.data_path / "grants.json"

    @property
    def told_secrets(self) -> Path:
        """Which values of secrets functions have been told of."""
        return self.platform.data_path / "told-secrets.json"

    @property
    def identity(self) -> Path:
        """Its certificate and key, in memory."""
        return self.platform.run_path / "identity"
