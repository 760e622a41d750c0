"""The secrets by which the parts of a cluster prove to each other who they are."""

from __future__ import annotations

import re
import secrets

BYTES = 32  # of randomness: 43 letters, digits, - and _
# they are sent in headers and lie in HAProxy's maps, whose lines end at a newline and whose keys end at a space
_FORM = re.compile(r"[\w.~+/=-]{16,512}", re.ASCII)
FORM = "16 to 512 letters, digits and .~+/=_-"  # for people


def new_proof() -> str:
    """Make one up."""
    return secrets.token_urlsafe(BYTES)


def is_proof(text: str) -> bool:
    """Return whether `text` has the form of one: FORM."""
    return _FORM.fullmatch(text) is not None
