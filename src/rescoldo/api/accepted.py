"""The response to a change that was accepted, with notes on what a client may not expect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.responses import PlainTextResponse, Response

from rescoldo.model.text import one_line
from rescoldo.policy.notes import PREFIX


def accepted(notes: Sequence[str], headers: Mapping[str, str] | None = None) -> Response:
    """202 with the contract's empty body, or with notes: OpenFaaS's clients look at the status alone."""
    text = "".join(f"{PREFIX}{one_line(note)}\n" for note in notes)
    return PlainTextResponse(text, 202, headers) if text else Response(status_code=202, headers=headers)
