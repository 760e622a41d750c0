"""The parts that every change of a function works with."""

from __future__ import annotations

from dataclasses import dataclass

from rescoldo.control.deploy.changes import Changes
from rescoldo.control.deploy.images import Images
from rescoldo.control.deploy.namespaces import Namespaces
from rescoldo.control.deploy.policies import Policies
from rescoldo.control.deploy.revision_check import RevisionCheck
from rescoldo.control.fleet.fleet import Fleet
from rescoldo.store.protocol import Store


@dataclass(frozen=True, slots=True)
class ChangeContext:
    """Created once; deployments, traffic splits, switches, removals and secrets share it."""

    store: Store
    fleet: Fleet
    spaces: Namespaces
    images: Images
    policies: Policies
    check: RevisionCheck
    changes: Changes
    kept: int  # past revisions that a function keeps
