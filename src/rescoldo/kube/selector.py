"""Label selectors for the fake of a cluster, as in `kubectl get -l`: `app=web,tier!=test,env in (a,b),owner,!old`.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from rescoldo.model.errors import InvalidInput

_KEY = r"(?P<key>[\w./-]+)"
_FORMS = [
    re.compile(rf"{_KEY}\s*(?P<sign>==?|!=)\s*(?P<values>[\w.-]*)"),
    re.compile(rf"{_KEY}\s+(?P<sign>in|notin)\s+\((?P<values>[\w\s.,-]*)\)"),
    re.compile(rf"(?P<sign>!?)\s*{_KEY}"),
]
_BETWEEN = re.compile(r",(?![^(]*\))")  # commas outside of brackets


def matches(selector: str, labels: Mapping[str, str]) -> bool:
    """Return whether `labels` fit `selector`; an empty one fits all. Raises InvalidInput."""
    if not selector:
        return True
    fitting = [_fits(part.strip(), labels) for part in _BETWEEN.split(selector)]  # all are read: one may not be valid
    return all(fitting)


def _fits(part: str, labels: Mapping[str, str]) -> bool:
    found = next((match for form in _FORMS if (match := form.fullmatch(part))), None)
    if found is None:
        raise InvalidInput(f"label selector: {part[:80]!r} is not a requirement")
    key, sign = found["key"], found["sign"]
    if sign in ("", "!"):
        return (key in labels) == (sign == "")
    values = {value.strip() for value in found["values"].split(",")}
    # as in the API, a label that is missing differs from any value
    return (labels.get(key) in values) == (sign in ("=", "==", "in"))
