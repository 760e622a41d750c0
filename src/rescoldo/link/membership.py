"""What a controller that is a worker of a cluster shares with its link to control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rescoldo.link.grants import Grants
from rescoldo.link.refusals import Refusals
from rescoldo.link.reports import Reports
from rescoldo.model.names import FunctionId


@dataclass(frozen=True, slots=True)
class Membership:
    """The parts of the link that look at the fleet, or that the fleet asks."""

    reachable: Callable[[], bool]  # whether control can be reached now
    ask_anew: Callable[[FunctionId], None]  # see JoinedDocuments
    reports: Reports
    grants: Grants
    refusals: Refusals  # of known documents that the controller could not take over
