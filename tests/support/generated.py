"""Replaces the generated parts of documents, each between two comments."""

from __future__ import annotations


def put_between(text: str, begin: str, end: str, new: str) -> str:
    """Return `text` with `new` between the comments. Raises ValueError if a comment is missing."""
    before, opening, rest = text.partition(begin)
    _, closing, after = rest.partition(end)
    if not opening or not closing:
        raise ValueError(f"the document lacks {begin!r} or {end!r}")
    return f"{before}{begin}{new}{end}{after}"
