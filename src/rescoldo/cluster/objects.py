"""A function's document as objects of Kubernetes: a Function, and a ControllerRevision for each of its revisions.

The Function's spec is what its users ask for; they may change it at any moment. Its status says which revision serves,
and has all of the document that changes without a deployment. A revision's own deployment is in its ControllerRevision,
which never changes and which the API server removes after its Function.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rescoldo.kube.conditions import ACCEPTED, READY, Condition
from rescoldo.kube.functions import FUNCTIONS, from_object, to_object
from rescoldo.kube.protocol import Object, Resource
from rescoldo.model.deployed import NEW, Deployed
from rescoldo.model.errors import InvalidInput
from rescoldo.model.function import Function, FunctionSpec, spec_from_json, spec_to_json
from rescoldo.model.names import FunctionId, function_id
from rescoldo.model.revision import Revision
from rescoldo.model.standing import Standing

REVISIONS = Resource("apps", "v1", "ControllerRevision", "controllerrevisions")
MANAGED = "app.kubernetes.io/managed-by"
OF = "rescoldo.dev/function"  # label of a revision: the name of its Function
LABELS = f"{MANAGED}=rescoldo,{OF}"  # selects revisions
FINALIZER = "rescoldo.dev/workers"  # keeps a deleted Function until its workers have let go of it (finalizers.py)
COLUMNS = ("kind", "state", "awake", "calls")  # of `kubectl get functions`, in the status


@dataclass(frozen=True, slots=True)
class Wish:
    """A Function, as far as its users and the API server have made it."""

    uid: str
    version: int  # resourceVersion: grows with each change of the object
    generation: int  # grows with each change of the spec
    going: bool  # somebody has deleted it
    spec: FunctionSpec
    observed: int  # generation of the spec that was deployed, or refused, last; 0: none
    status: Mapping[str, Any]  # the status's part `deployed`; empty before the first deployment
    conditions: tuple[Mapping[str, Any], ...] = ()
    shown: Mapping[str, Any] = field(default_factory=dict)  # the status's fields that are COLUMNS
    finalizers: tuple[str, ...] = ()

    @property
    def id(self) -> FunctionId:
        return self.spec.id

    @property
    def deployed(self) -> int:
        """The version of its document; NEW if it was never deployed, or is removed."""
        return NEW if self.going else int(self.status.get("version") or NEW)

    @property
    def held(self) -> bool:
        """Whether a deletion waits for us."""
        return FINALIZER in self.finalizers

    @property
    def misheld(self) -> bool:
        """Whether its finalizer is missing, or due to be taken off."""
        return self.held if self.going else not self.held and self.deployed != NEW

    @property
    def undone(self) -> bool:
        """Whether its spec asks for what is not deployed, and may be deployed."""
        return not self.going and (self.generation > self.observed or self.refused)

    @property
    def refused(self) -> bool:
        """Whether its present spec could not be deployed when that was tried last."""
        return any(one["type"] == ACCEPTED and one["status"] == "False" for one in self.conditions)

    @property
    def objects(self) -> tuple[str, ...]:
        """The names of its revisions' objects."""
        return tuple(self.status.get("objects") or ())


def read_function(obj: Object) -> Wish:
    """Read a Function. One whose spec cannot be read, as its kind was defined by another version, asks for nothing."""
    meta, status = obj["metadata"], obj.get("status") or {}
    return Wish(
        uid=str(meta["uid"]),
        version=int(meta["resourceVersion"]),
        generation=int(meta.get("generation") or 0),
        going="deletionTimestamp" in meta,
        spec=_spec_of(obj),
        observed=int(status.get("observedGeneration") or 0),
        status=status.get("deployed") or {},
        conditions=tuple(status.get("conditions") or ()),
        shown={name: status[name] for name in COLUMNS if name in status},
        finalizers=tuple(meta.get("finalizers") or ()),
    )


def _spec_of(obj: Object) -> FunctionSpec:
    try:
        return from_object(obj)
    except InvalidInput:
        return FunctionSpec(str(obj["metadata"]["name"]), "", str(obj["metadata"]["namespace"]))


def function_object(spec: FunctionSpec) -> Object:
    """The Function of a deployment."""
    obj = to_object(spec)
    obj["metadata"]["finalizers"] = [FINALIZER]
    return obj


def finalizers_of(wish: Wish, *, held: bool) -> list[str]:
    """The finalizers that a Function is to have: others' stay."""
    others = [one for one in wish.finalizers if one != FINALIZER]
    return [*others, FINALIZER] if held else others


def status_of(document: Deployed, version: int, names: Iterable[str]) -> Object:
    """The status of a Function with that document, which becomes `version`; its revisions are the objects `names`.

    The version is not the object's, which grows with each count of calls, too: it is the object's before this save. So
    it grows with each save, and is larger than that of any function of this name that was removed before.
    """
    function = document.function
    return {
        "revision": function.revision,
        "deployed": {
            "version": version,
            "objects": sorted(names),
            "digest": function.digest,
            "createdAt": function.created_at,
            "revision": function.revision,
            "revisedAt": function.revised_at,
            "generation": function.generation,
            "traffic": {str(number): percent for number, percent in function.traffic.items()},
            "requested": document.requested,
            "standing": asdict(document.standing),
        },
    }


def conditions_of(document: Deployed) -> list[Condition]:
    """What the status says of a function whose spec was deployed."""
    return [Condition(ACCEPTED, True, "Valid"), _ready(document.standing)]


def _ready(standing: Standing) -> Condition:
    if standing.paused:
        return Condition(READY, False, "Paused", "its calls are refused until it is resumed")
    if standing.failure:
        return Condition(READY, False, "StartFailed", standing.failure)
    if standing.untried:
        return Condition(READY, None, "NotStarted", "its first start is not over yet")
    return Condition(READY, True, "Deployed")


def document_of(wish: Wish, revisions: Mapping[int, Revision]) -> Deployed | None:
    """The document of a Function; None if it was never deployed, or if its serving revision is missing.

    What serves is the deployment of its revision: the spec may ask for another one already. The one that serves is
    taken from the spec where it has no ControllerRevision, as after a restore of Functions alone.
    """
    if wish.deployed == NEW:
        return None
    kept = wish.status
    number = int(kept["revision"])
    spec = revisions[number].spec if number in revisions else wish.spec
    function = Function(
        spec,
        str(kept["digest"]),
        float(kept["createdAt"]),
        number,
        float(kept["revisedAt"]),
        int(kept["generation"]),
        {int(share): int(percent) for share, percent in (kept.get("traffic") or {}).items()},
    )
    others = tuple(revisions[other] for other in sorted(revisions, reverse=True) if other != number)
    standing = Standing(**kept["standing"])
    return Deployed(function, others, int(kept.get("requested") or 0), standing, wish.deployed)


def revision_object(revision: Revision, owner: Object) -> Object:
    """The ControllerRevision of a revision of the Function `owner`."""
    meta = owner["metadata"]
    return {
        "apiVersion": REVISIONS.api_version,
        "kind": REVISIONS.kind,
        "metadata": {
            "name": revision_name(meta["name"], meta["uid"], revision),
            "namespace": meta["namespace"],
            "labels": {MANAGED: "rescoldo", OF: meta["name"]},
            "ownerReferences": [
                {
                    "apiVersion": FUNCTIONS.api_version,
                    "kind": FUNCTIONS.kind,
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "revision": revision.number,
        "data": {
            "spec": spec_to_json(revision.spec),
            "digest": revision.digest,
            "createdAt": revision.created_at,
            "failure": revision.failure,
        },
    }


def revision_name(function: str, uid: str, revision: Revision) -> str:
    """The name of a revision's object. A function of that name that was removed had another uid; a revision that served
    and is marked as failed later becomes another object, as its data cannot change."""
    return f"{function}-{uid[:8]}-{revision.number}{'-failed' if revision.failure else ''}"


@dataclass(frozen=True, slots=True)
class StoredRevision:
    """A ControllerRevision."""

    namespace: str
    name: str
    function: FunctionId
    owner: str  # uid of its Function
    revision: Revision


def read_revision(obj: Object) -> StoredRevision | None:
    """Read a ControllerRevision; None if it is not one of ours, whatever its labels say."""
    meta, data = obj["metadata"], obj.get("data") or {}
    owners = [one for one in meta.get("ownerReferences") or () if one.get("kind") == FUNCTIONS.kind]
    try:
        spec = spec_from_json(data["spec"])
        revision = Revision(
            int(obj["revision"]), spec, str(data["digest"]), float(data["createdAt"]), str(data["failure"])
        )
        owner = str(owners[0]["uid"])
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return StoredRevision(meta["namespace"], meta["name"], function_id(spec.name, spec.namespace), owner, revision)
