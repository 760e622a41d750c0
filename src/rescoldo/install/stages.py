"""All objects of an installation, in the order in which they are applied.

An upgrade goes the same way: the definition of Functions first, then control, which serves workers and gateways of the
version before, then workers, then gateways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rescoldo.install.names import KEEP
from rescoldo.install.objects.access import function_namespaces, rights, service_accounts, system_namespace
from rescoldo.install.objects.build import builds
from rescoldo.install.objects.control import control
from rescoldo.install.objects.gateway import gateways
from rescoldo.install.objects.network import policies
from rescoldo.install.objects.worker import workers
from rescoldo.install.placeholders import Tree
from rescoldo.kube.definition import definition
from rescoldo.stack.document import load_own


@dataclass(frozen=True, slots=True)
class Stage:
    """Objects that are applied together. The next stage begins when the Deployments among them are rolled out."""

    name: str  # for people, and of the chart's file
    objects: Sequence[Tree]
    in_chart: bool = True


def crd() -> Tree:
    """Return the definition of Functions. In a chart it stays when the rest goes, and so do the functions."""
    found = load_own(definition())
    found["metadata"]["annotations"] = dict(KEEP)
    return found  # type: ignore[no-any-return]


def stages() -> list[Stage]:
    """Return the stages of an installation."""
    return [
        Stage("definition", [crd()]),
        Stage("namespace", system_namespace(), in_chart=False),
        Stage("namespaces", function_namespaces()),
        Stage("rights", [*service_accounts(), *rights()]),
        Stage("network", policies()),
        Stage("builds", builds()),
        Stage("control", control()),
        Stage("workers", workers()),
        Stage("gateways", gateways()),
    ]
