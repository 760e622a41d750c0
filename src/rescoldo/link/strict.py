"""Documents as this version understands them, or not at all.

Control may be newer than a worker by one version. A worker that left out a field it does not know would run another
function than its author deployed, for example one without its limit. So it refuses such a function (InvalidInput).

A new field without a value (null, "", 0, false, [] or {}) says nothing and is left out: a new control writes it into
every document, and an old worker must still serve those that do not use it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from rescoldo.model.deployed import Deployed, from_json, to_json
from rescoldo.model.errors import InvalidInput
from rescoldo.model.function import DEFAULT_START, Function, FunctionSpec, check_fields, policy_of
from rescoldo.model.revision import Revision
from rescoldo.model.standing import Standing

_EVERY = to_json(Deployed(Function(FunctionSpec("", ""), "", 0.0)))
_SPEC = frozenset(_EVERY["spec"])
_STANDING = frozenset(one.name for one in fields(Standing))
_REVISION = frozenset(one.name for one in fields(Revision))


def read_document(found: Mapping[str, Any]) -> Deployed:
    """Read `to_json`'s object. Raises as `from_json`, and InvalidInput for a field that this version does not know."""
    known = _understood(found, _EVERY, "the function")
    known["spec"] = _spec(found["spec"])
    known["standing"] = _understood(found["standing"], _STANDING, "the function's state")
    known["revisions"] = [_revision(one) for one in found["revisions"]]
    return from_json(known)


def check_values(document: Deployed) -> None:
    """Raise InvalidInput for a label, annotation or limit that this version does not know, of a revision that takes
    traffic. What depends on the bundle is not checked: it may not be here yet."""
    shares = document.function.traffic
    specs = [document.function.spec, *(one.spec for one in document.revisions if one.number in shares)]
    for spec in specs:
        check_fields(spec)
        policy_of(spec, DEFAULT_START)


def _revision(found: Mapping[str, Any]) -> dict[str, Any]:
    return {**_understood(found, _REVISION, "a revision"), "spec": _spec(found["spec"])}


def _spec(found: Mapping[str, Any]) -> dict[str, Any]:
    return _understood(found, _SPEC, "the deployment")


def _understood(found: Mapping[str, Any], known: Collection[str], what: str) -> dict[str, Any]:
    for name, value in found.items():
        if name not in known and value:
            raise InvalidInput(f"{what} has the field {name[:80]!r}, which this worker's version does not know")
    return {name: value for name, value in found.items() if name in known}
