"""The fields of an object for the fake of a cluster: merge patches, and who owns which field.

Source: https://kubernetes.io/docs/reference/using-api/server-side-apply. A field is the path of a value that is not an
object, and lists are one value; only finalizers are a set, whose members have owners of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rescoldo.kube.errors import Owned
from rescoldo.kube.protocol import Object

Path = tuple[str, ...]
FINALIZERS = ("metadata", "finalizers")
# the API server's own, which nobody owns
_SERVERS = {"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp"}
_NOBODYS = {("apiVersion",), ("kind",), *(("metadata", name) for name in _SERVERS)}


class Owner(NamedTuple):
    """Who owns fields: `rescoldo` as an applier is somebody else than `rescoldo` as a patcher."""

    manager: str
    operation: str  # "Apply" or "Update"
    subresource: str = ""


def leaves(obj: Mapping[str, Any]) -> dict[Path, Any]:
    """Return the fields of `obj` that can have an owner, and their values."""
    found: dict[Path, Any] = {}

    def walk(value: Any, path: Path) -> None:
        if path == FINALIZERS:
            value = dict.fromkeys(value)
        if isinstance(value, Mapping) and value:
            for key, child in value.items():
                walk(child, (*path, key))
        elif path not in _NOBODYS:
            found[path] = value

    walk(obj, ())
    return found


def with_fields(obj: Object, new: Mapping[Path, Any], gone: set[Path]) -> Object:
    """Return `obj` with the fields `new` and without `gone`; objects that become empty go, too."""
    changed = deepcopy(obj)
    _finalizers(changed, dict.fromkeys)
    for path in gone:
        _remove(changed, path)
    for (*parents, last), value in new.items():
        place = changed
        for key in parents:
            if not isinstance(place.get(key), dict):
                place[key] = {}
            place = place[key]
        if value != {} or not isinstance(place.get(last), dict):  # an empty object that is applied empties nothing
            place[last] = deepcopy(value)
    _finalizers(changed, list)
    return changed


def merged(obj: Any, change: Any) -> Any:
    """Return `obj` with a JSON Merge Patch (RFC 7386): None removes a field."""
    if not isinstance(change, Mapping):
        return deepcopy(change)
    result = dict(obj) if isinstance(obj, Mapping) else {}
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


@dataclass(slots=True)
class Fields:
    """Who owns which field of one object."""

    owners: dict[Owner, set[Path]] = field(default_factory=dict)

    def apply(self, owner: Owner, old: Object, wanted: Mapping[str, Any], force: bool) -> Object:
        """Return the object as `owner` applies it, and note what it owns. Raises Owned."""
        new, live = leaves(wanted), leaves(old)
        taken = {
            other: {path for path in owned & set(new) if live.get(path) != new[path]}
            for other, owned in self.owners.items()
            if other != owner
        }
        if any(taken.values()) and not force:
            raise Owned(_conflicts(taken))
        for other, paths in taken.items():
            self.owners[other] -= paths
        others = set().union(*(owned for other, owned in self.owners.items() if other != owner))
        gone = self.owners.get(owner, set()) - set(new) - others
        self.owners[owner] = set(new)
        return with_fields(old, new, gone)

    def update(self, owner: Owner, old: Object, new: Object) -> None:
        """Note that `owner` owns what differs in `new`, and nobody what is gone."""
        before, after = leaves(old), leaves(new)
        changed = {path for path, value in after.items() if path not in before or before[path] != value}
        for owned in self.owners.values():
            owned -= changed | (set(before) - set(after))
        if changed:
            self.owners.setdefault(owner, set()).update(changed)


def _conflicts(taken: Mapping[Owner, set[Path]]) -> str:
    lines = [f'conflict with "{owner.manager}": .{".".join(path)}' for owner in taken for path in sorted(taken[owner])]
    return f"Apply failed with {len(lines)} conflict{'s'[: len(lines) > 1]}: {'; '.join(lines)}"


def _finalizers(obj: Object, form: Any) -> None:
    meta = obj.get("metadata", {})
    if "finalizers" in meta:
        meta["finalizers"] = form(meta["finalizers"])
        if not meta["finalizers"]:
            del meta["finalizers"]


def _remove(obj: Object, path: Path) -> None:
    """Remove a field, and the objects around it that are empty then."""
    key, *rest = path
    if not rest:
        obj.pop(key, None)
    elif isinstance(inner := obj.get(key), dict):
        _remove(inner, tuple(rest))
        if not inner:
            del obj[key]
