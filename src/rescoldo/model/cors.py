"""The origins whose pages may read the platform's own responses to a function's calls: `rescoldo.dev/cors`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rescoldo.model.errors import InvalidInput

ANY = "*"
MOST_ORIGINS = 20
# scheme, host and optional port, as a browser writes them in `Origin`
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]{0,30}://([a-z0-9_.-]{1,253}|\[[0-9a-f:.]{2,45}\])(:[0-9]{1,5})?")
_SHOWN = 80  # characters of a refused text that its error repeats


def origins(notes: Mapping[str, str], key: str) -> tuple[str, ...]:
    """Return the origins in the annotation `key`, or ("*",); empty if it is missing. Raises InvalidInput."""
    text = notes.get(key, "").strip()
    found = tuple(dict.fromkeys(text.replace(",", " ").split()))
    if found in ((), (ANY,)):
        return found
    if len(found) > MOST_ORIGINS or not all(map(_ORIGIN.fullmatch, found)):
        raise InvalidInput(
            f"{key}: {text[:_SHOWN]!r} is not allowed; use * or up to {MOST_ORIGINS} origins in lower case and without "
            "a path, for example https://shop.example,http://localhost:3000"
        )
    return found
