"""The errors of a Kubernetes API server, from its `Status` objects.

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status. The status code alone does not
tell: 409 is "exists", "changed meanwhile" or "owned by another manager", and 403 a missing right or a quota.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rescoldo.kube.protocol import Resource
from rescoldo.model.errors import Busy, Conflict, InvalidInput, NotFound, RescoldoError, TooLarge

LONGEST_RETRY = 60.0  # seconds; a longer Retry-After counts as this
RETRY = 1.0  # seconds, where the API server names no time
MAX_MESSAGE = 2000  # characters of the API server's message; an invalid object may have hundreds of causes
MAX_VALUE = 80  # characters of a refused value that a message repeats
_VALUE = re.compile(r'(Invalid value: )"((?:[^"\\]|\\.)*)"')
# words of internal errors (500) that are no better a moment later
_FINAL: dict[str, type[RescoldoError]] = {
    "failed to create typed patch object": InvalidInput,  # a field that the schema lacks: its definition may be older
    "etcdserver: request is too large": TooLarge,  # above 1.5 MiB
    "trying to send message larger than max": TooLarge,  # above 2 MiB
}
# what the API server's authorizer says: User "U" cannot VERB resource "R" in API group "G" in the namespace "N"
_NO_RIGHT = re.compile(r' cannot \w+ resource "')


class ClusterUnavailable(Busy):
    """The Kubernetes API cannot be reached; try again."""


class Forbidden(RescoldoError):
    """The Kubernetes API does not allow this."""


class Changed(Conflict):
    """The object was changed by somebody else meanwhile."""


class Owned(Conflict):
    """Another field manager owns a field of the object."""


class Expired(RescoldoError):
    """The Kubernetes API no longer has the changes since this version."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, for the words of its error."""

    verb: str  # as in a Role: get, list, watch, create, patch, delete
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def place(self) -> str:
        """Where it is: `in namespace blue`, or nothing for kinds without namespaces."""
        if not self.resource.namespaced:
            return ""
        return f" in namespace {self.namespace}" if self.namespace else " in all namespaces"

    def __str__(self) -> str:
        part = f"/{self.subresource}" if self.subresource else ""
        name = f" {self.name}" if self.name else ""
        return f"{self.verb} {self.resource.name}{part}{name}{self.place}"


def error_of(status: Mapping[str, Any], asked: Asked, retry_after: str = "") -> RescoldoError:
    """Return the error that a `Status` object means; `retry_after` is the header of that name.

    Whatever is not known (a proxy's 502 without a Status, a status of a later version) counts as unavailable if its
    code is 429 or 5xx.
    """
    code, reason = int(status.get("code") or 0), str(status.get("reason") or "")
    details = status.get("details") or {}
    causes = {str(cause.get("reason")) for cause in details.get("causes") or ()}
    message = _without_values(str(status.get("message") or f"status {code}"), asked.resource)[:MAX_MESSAGE]
    if code == 410 or causes & {"ResourceVersionTooLarge"}:  # the latter: an API server that lost its latest changes
        return Expired(message)
    if code in (401, 403):
        return _refused(code, message, asked)
    if code == 409 and reason != "AlreadyExists":
        return Owned(message) if "FieldManagerConflict" in causes else Changed(message)
    if code == 500 and (kind := next((kind for words, kind in _FINAL.items() if words in message), None)):
        return kind(message)
    plain = {400: InvalidInput, 404: NotFound, 409: Conflict, 413: TooLarge, 422: InvalidInput}
    if code in plain:
        return plain[code](message)
    if code in (408, 429) or code >= 500:
        wait = _seconds(retry_after or str(details.get("retryAfterSeconds") or ""))
        return ClusterUnavailable(f"the Kubernetes API could not {asked}: {message}", retry_after=wait)
    return RescoldoError(f"the Kubernetes API did not {asked}: {message}")


def _without_values(message: str, resource: Resource) -> str:
    """Leave out what was refused if it is long, and for secrets always: the API server repeats whole objects."""
    longest = 0 if resource.plural == "secrets" else MAX_VALUE
    return _VALUE.sub(lambda found: found[0] if len(found[2]) <= longest else f'{found[1]}"…"', message)


def _refused(code: int, message: str, asked: Asked) -> Forbidden:
    """Name the right that is missing. A quota or an admission rule speaks for itself."""
    if code == 401:
        return Forbidden(f"the Kubernetes API does not accept our credentials ({asked}): {message}")
    if not _NO_RIGHT.search(message):
        return Forbidden(f"the Kubernetes API refuses to {asked}: {message}")
    resource, part = asked.resource, f"/{asked.subresource}" if asked.subresource else ""
    role = f"Role{asked.place}" if resource.namespaced and asked.namespace else "ClusterRole"
    return Forbidden(
        f"not allowed to {asked}: a {role} has to grant verb {asked.verb!r} on {resource.plural + part!r} of API group "
        f"{resource.group!r}; the API server says: {message}"
    )


def _seconds(text: str) -> float:
    """Return the seconds of a Retry-After; a date, which the API server never sends, counts as none."""
    return min(LONGEST_RETRY, float(text)) if text.isascii() and text.isdigit() else RETRY
