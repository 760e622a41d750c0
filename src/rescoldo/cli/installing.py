"""Flags that say what an installation in a cluster is like."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rescoldo.cli.options import Whole, folded
from rescoldo.model.names import DEFAULT_NAMESPACE
from rescoldo.model.values import seconds

if TYPE_CHECKING:
    from rescoldo.install.values import Values

LONGEST_WAIT = 3600.0  # seconds


@dataclass(frozen=True, slots=True)
class InstallFlags:
    """Flags for values, which win over a file's."""

    values_file: Path | None
    settings: tuple[str, ...]
    system_namespace: str
    image: str
    pull_policy: str | None
    namespaces: tuple[str, ...]
    workers: int | None
    gateways: int | None
    storage_class: str | None

    def values(self) -> Values:
        """Return the values of an installation, not checked yet. Raises InvalidInput."""
        from rescoldo.install.reading import read_values, set_values
        from rescoldo.install.values import Values

        found = Values(namespace=self.system_namespace)
        if self.values_file is not None:
            found = read_values(found, self.values_file)
        return set_values(found, (*self.settings, *self._named()))

    def _named(self) -> Iterator[str]:
        """Yield the flags that have a name of their own as settings."""
        spaces = list(dict.fromkeys((DEFAULT_NAMESPACE, *self.namespaces))) if self.namespaces else None
        named = {
            "image": self.image or None,
            "imagePullPolicy": self.pull_policy,
            "functionNamespaces": spaces,
            "worker.replicas": self.workers,
            "gateway.replicas": self.gateways,
            "control.storage.className": self.storage_class,
        }
        yield from (f"{path}={json.dumps(given)}" for path, given in named.items() if given is not None)


system_option = click.option(
    "--system-namespace",
    default="rescoldo",
    show_default=True,
    metavar="NAMESPACE",
    help="Namespace of the gateways and the API.",
)
install_options = folded(
    InstallFlags,
    "flags",
    click.option(
        "--values",
        "values_file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="YAML file of values; `rescoldo kubernetes chart` writes one with all of them.",
    ),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A value: worker.resources.limits …"),
    system_option,
    click.option("--image", default="", help="Image of rescoldo, as `rescoldo kubernetes image` makes it."),
    click.option(
        "--pull-policy",
        type=click.Choice(("Always", "IfNotPresent", "Never")),
        help="When nodes pull the image. [IfNotPresent]",
    ),
    click.option(
        "-n",
        "--namespace",
        "namespaces",
        multiple=True,
        metavar="NAMESPACE",
        help=f"Namespace for functions besides {DEFAULT_NAMESPACE}; may be given several times.",
    ),
    click.option("--workers", type=Whole(1, 1000), help="Workers in each namespace for functions. [2]"),
    click.option("--gateways", type=Whole(1, 1000), help="Gateways. [2]"),
    click.option("--storage-class", metavar="NAME", help="Storage class of the API's volume. [the cluster's default]"),
)


def _patience(_context: click.Context, _option: click.Parameter, text: str) -> float:
    return seconds({"--timeout": text}, "--timeout", 300.0, 1.0, LONGEST_WAIT)


patience_option = click.option(
    "--timeout",
    default="5m",
    show_default=True,
    metavar="DURATION",
    callback=_patience,
    help="Maximum wait for each step.",
)
