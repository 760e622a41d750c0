"""All that is kept of one deployed function, as one document: the function, its other revisions, its requested replicas
and its standing. Stores that keep documents (store/documents.py) change them by these rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from rescoldo.model.function import Function, spec_from_json, spec_to_json
from rescoldo.model.names import FunctionId
from rescoldo.model.revision import Revision
from rescoldo.model.standing import PLAIN, Standing

NEW = 0  # the version of a document that no store has yet


@dataclass(frozen=True, slots=True)
class Deployed:
    """One document; `version` grows with each save, and tells a store which document a change was made of."""

    function: Function
    revisions: tuple[Revision, ...] = ()  # past and failed ones, newest first
    requested: int = 0  # instances that a user asked for; 0: nobody did
    standing: Standing = PLAIN
    version: int = NEW

    @property
    def id(self) -> FunctionId:
        return self.function.id

    def serving(self, function: Function, keep: int, standing: Standing | None) -> Deployed:
        """Let another state of the function take its place; a replaced revision becomes a past one. The last `keep`
        revisions that have served stay, the current one included. `standing`: None leaves it."""
        before = self.function
        changed = replace(self, function=function, standing=self.standing if standing is None else standing)
        return changed if before.revision == function.revision else changed._with(Revision.of(before), keep - 1)

    def failed(self, revision: Revision, keep: int) -> Deployed:
        """Keep a revision that did not start; the last `keep` failed ones stay."""
        return self._with(revision, keep)

    def _with(self, revision: Revision, keep: int) -> Deployed:
        others = [one for one in self.revisions if one.number != revision.number]
        kept = sorted((*others, revision), key=lambda one: -one.number)
        # failed revisions and those that served have a limit each
        alike = [one.number for one in kept if bool(one.failure) == bool(revision.failure)]
        surplus = set(alike[max(0, keep) :])
        return replace(self, revisions=tuple(one for one in kept if one.number not in surplus))


def to_json(deployed: Deployed) -> dict[str, Any]:
    """The document as an object of JSON, which `from_json` reads."""
    function = deployed.function
    return {
        "spec": spec_to_json(function.spec),
        "digest": function.digest,
        "created_at": function.created_at,
        "revision": function.revision,
        "revised_at": function.revised_at,
        "generation": function.generation,
        "traffic": {str(number): percent for number, percent in function.traffic.items()},
        "revisions": [{**_plain(one), "spec": spec_to_json(one.spec)} for one in deployed.revisions],
        "requested": deployed.requested,
        "standing": asdict(deployed.standing),
        "version": deployed.version,
    }


def from_json(found: Mapping[str, Any]) -> Deployed:
    """Read a document. Raises KeyError, TypeError, ValueError, AttributeError or InvalidInput for any other object."""
    function = Function(
        spec_from_json(found["spec"]),
        str(found["digest"]),
        float(found["created_at"]),
        int(found["revision"]),
        float(found["revised_at"]),
        int(found["generation"]),
        {int(number): int(percent) for number, percent in found["traffic"].items()},
    )
    revisions = [Revision(**{**one, "spec": spec_from_json(one["spec"])}) for one in found["revisions"]]
    return Deployed(
        function, tuple(revisions), int(found["requested"]), Standing(**found["standing"]), int(found["version"])
    )


def _plain(revision: Revision) -> dict[str, Any]:
    return {
        "number": revision.number,
        "digest": revision.digest,
        "created_at": revision.created_at,
        "failure": revision.failure,
    }
