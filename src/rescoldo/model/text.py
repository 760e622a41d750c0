"""Makes text from outside safe to store, send and show. Each entry point calls one of these functions once.

Such text can do harm in three ways. Half a character (a lone surrogate: JSON spells it `\\ud800`, and the operating
system passes one for a byte that is not UTF-8) fits no encoding, so that sending or storing it fails. Control
characters let a text overwrite other lines of a terminal or a log, and reorder the text that people read. Deeply nested
JSON exhausts its reader's stack.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_DEPTH = 64  # levels of nested objects and lists in a JSON text
_HALF = "\ud800-\udfff"
# C0, DEL and C1 except newline and tab; characters that end a line (U+2028, U+2029) or turn its direction (UAX #9)
_CONTROL = f"\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069{_HALF}"
_HALVES = re.compile(f"[{_HALF}]")
_IN_LINES = re.compile(f"[{_CONTROL}]")
_IN_A_LINE = re.compile(f"[{_CONTROL}\\n]")
_ESCAPED_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")


def whole(text: str) -> str:
    """Return `text` with U+FFFD for each half of a character, so that it fits any Unicode encoding."""
    return text if text.isascii() else _HALVES.sub("\ufffd", text)


def visible(text: str) -> str:
    """Return `text` with control characters, except newline and tab, escaped as in Python: `\\x1b[31m`."""
    return _IN_LINES.sub(_escaped, text)


def one_line(text: str) -> str:
    """Return `visible(text)` with newlines escaped, too: text from outside cannot look like a line of ours."""
    return _IN_A_LINE.sub(_escaped, text)


def uncoloured(text: str) -> str:
    """Return `visible(text)` without the sequences that only set colours."""
    return visible(_COLOUR.sub("", text))


def is_plain(text: str) -> bool:
    """Return whether `one_line` would change nothing."""
    return not _IN_A_LINE.search(text)


def json_text(data: object) -> str:
    """Return `data` as indented JSON for people: letters of all languages as they are, control characters escaped."""
    return _IN_LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(data, indent=2, ensure_ascii=False))


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def read_json(data: bytes, depth: int = MAX_DEPTH) -> Any:
    """Return the JSON value in `data`, with `whole` text.

    Raises only ValueError: for invalid JSON, and for nesting deeper than `depth`. The caller limits the bytes, and
    thereby the number of values.
    """
    try:
        value = json.loads(data.decode("utf-8", "replace"))
    except RecursionError:
        raise _too_deep(depth) from None
    if data.count(b"[") + data.count(b"{") > depth:  # else it cannot be deeper
        _check_depth(value, depth)
    return _whole_value(value) if _ESCAPED_HALF.search(data) else value


def _check_depth(value: Any, depth: int) -> None:
    level = [value]
    for _ in range(depth + 1):
        level = [child for parent in level if isinstance(parent, dict | list) for child in _children(parent)]
        if not level:
            return
    raise _too_deep(depth)


def _children(parent: dict[str, Any] | list[Any]) -> Any:
    return parent.values() if isinstance(parent, dict) else parent


def _whole_value(value: Any) -> Any:
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, dict):
        return {whole(key): _whole_value(child) for key, child in value.items()}
    return [_whole_value(child) for child in value] if isinstance(value, list) else value


def _too_deep(depth: int) -> ValueError:
    return ValueError(f"it is nested deeper than {depth} levels")
