from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rescoldo.model.text import MAX_DEPTH, is_plain, json_text, one_line, read_json, uncoloured, visible, whole

ANY = st.text(st.characters(codec=None, categories=None))  # including lone surrogates
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY, inner, max_size=4),
    max_leaves=20,
)


@given(ANY)
def test_whole_makes_text_encodable_and_is_idempotent(text: str) -> None:
    whole(text).encode()
    assert whole(whole(text)) == whole(text)
    assert len(whole(text)) == len(text)


@given(ANY)
def test_no_control_character_is_left_in_shown_text(text: str) -> None:
    assert not [c for c in one_line(text) if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c != "\t"]
    assert not [c for c in visible(text) if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]
    one_line(text).encode()
    assert is_plain(text) == (one_line(text) == text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\rb\bc\x7f\x9b2J", r"a\rb\x08c\x7f\x9b2J"),
        ("abc\u202e\u2066", r"abc\u202e\u2066"),
        ("half \ud800", r"half \ud800"),
        ("a\tb\nc é 👩\u200d🚀 \u3000", "a\tb\nc é 👩\u200d🚀 \u3000"),
    ],
)
def test_control_characters_are_shown_as_python_escapes_and_other_text_stays(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert one_line(text) == shown.replace("\n", r"\n")


def test_colours_are_removed_and_other_sequences_shown() -> None:
    assert uncoloured("\x1b[1;31mred\x1b[0m \x1b[2Jgone \x1b]0;title\x07") == r"red \x1b[2Jgone \x1b]0;title\x07"


@given(JSON)
def test_json_round_trips_except_lone_surrogates(value: Any) -> None:
    found = read_json(json.dumps(value).encode())
    json.dumps(found, ensure_ascii=False).encode()
    plain = "\\ud" not in json.dumps(value)
    assert not plain or found == value


@pytest.mark.parametrize("brackets", [MAX_DEPTH + 1, 4090, 1_000_000])
@pytest.mark.parametrize("pair", [("[", "]"), ('{"a":', "}")])
def test_json_that_is_nested_too_deeply_is_a_value_error(brackets: int, pair: tuple[str, str]) -> None:
    opening, closing = pair
    with pytest.raises(ValueError, match="nested deeper"):
        read_json((opening * brackets + "1" + closing * brackets).encode())
    assert read_json((opening * MAX_DEPTH + "1" + closing * MAX_DEPTH).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b"1" * 5000])
def test_invalid_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_json(data)


@given(JSON)
def test_json_text_has_the_same_value_and_no_control_characters(value: Any) -> None:
    text = json_text(value)
    assert json.loads(text) == json.loads(json.dumps(value))
    assert visible(text) == text
