"""A function's past and failed revisions, and the split of its traffic between revisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rescoldo.model.errors import InvalidInput

if TYPE_CHECKING:  # the settings need a number from here, and every process the settings: 20 ms of its start
    from rescoldo.model.function import Function, FunctionSpec

KEPT_REVISIONS = 10  # of each function, the current one included
MOST_KEPT_REVISIONS = 100
MAX_SHARES = 10  # revisions that may share one function's traffic


@dataclass(frozen=True, slots=True)
class Revision:
    """One immutable version of a function that was once current, or that failed to start."""

    number: int
    spec: FunctionSpec
    digest: str  # of its bundle
    created_at: float  # Unix seconds of its deployment
    failure: str = ""  # why it failed to start at its deployment, and so never took traffic

    @classmethod
    def of(cls, function: Function) -> Revision:
        """Return the current revision of `function`."""
        return cls(function.revision, function.spec, function.digest, function.revised_at)

    def serving(self, current: Function) -> Function:
        """Return this revision as a function that runs beside the `current` one."""
        return replace(
            current, spec=self.spec, digest=self.digest, revision=self.number, revised_at=self.created_at, traffic={}
        )


@dataclass(frozen=True, slots=True)
class RevisionStatus:
    """A revision as it is now."""

    revision: Revision
    current: bool  # the last revision that was deployed and started
    traffic: int  # percent of the function's calls
    replicas: int  # instances that answer

    @property
    def state(self) -> str:
        """"failed": it never started. "serving": it has a share of the traffic. "kept": a rollback can restore it."""
        if self.revision.failure:
            return "failed"
        return "serving" if self.traffic else "kept"


def check_traffic(shares: Mapping[int, int]) -> dict[int, int]:
    """Return the shares above 0, highest revision first; raise InvalidInput unless each is a percentage and their sum
    is 100."""
    if len(shares) > MAX_SHARES:
        raise InvalidInput(f"traffic: {len(shares)} revisions are named; split it between at most {MAX_SHARES}")
    for revision, percent in shares.items():
        if not 0 <= percent <= 100:
            raise InvalidInput(f"traffic: {revision}={percent} is not allowed; use a percentage from 0 to 100")
    if sum(shares.values()) != 100:
        raise InvalidInput(
            f"traffic: the shares are {sum(shares.values())} % together; they must be 100, for example 3=90 4=10"
        )
    return {number: shares[number] for number in sorted(shares, reverse=True) if shares[number]}
