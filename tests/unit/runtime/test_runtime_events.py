"""The request as its handler sees it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rescoldo.runtime.events import Context, Event, Headers, Query, Request, split_target


def event(target: bytes = b"/", headers: list[tuple[bytes, bytes]] | None = None) -> Event:
    request = Request()
    request.target, request.method, request.body = target, "POST", b"body"
    request.headers = headers or []
    return Event(request)


def test_headers_are_found_in_any_case_and_listed_in_title_case() -> None:
    headers = event(headers=[(b"content-type", b"a/b"), (b"x-a", b"1"), (b"x-a", b"2")]).headers
    assert headers["CONTENT-TYPE"] == headers.get("content-type") == "a/b"
    assert "x-A" in headers
    assert "x-b" not in headers
    assert 7 not in headers
    assert headers.get("x-b", "none") == "none"
    assert dict(headers) == {"Content-Type": "a/b", "X-A": "1, 2"}
    assert (headers.getlist("X-a"), headers.getlist("x-b"), len(headers)) == (["1", "2"], [], 2)
    assert (headers.get("x-a", type=int), headers.getlist("x-a", int)) == (None, [1, 2])
    assert headers.get_all("x-a") == ["1", "2"]
    assert headers.to_dict() == dict(headers)
    assert headers.to_dict(flat=False) == {"Content-Type": ["a/b"], "X-A": ["1", "2"]}
    assert repr(headers) == "Headers({'Content-Type': 'a/b', 'X-A': '1, 2'})"


def test_cookies_are_joined_with_a_semicolon() -> None:
    assert Headers([(b"cookie", b"a=1"), (b"cookie", b"b=2")])["Cookie"] == "a=1; b=2"


def test_a_query_is_a_json_serializable_dict_of_first_values() -> None:
    query = event(b"/p?a=1&a=2&b=&c&d=%C3%A9+x&e=%FF").query
    assert query == {"a": "1", "b": "", "c": "", "d": "é x", "e": "�"}
    assert query.getlist("a") == ["1", "2"]
    assert query.getlist("z") == []
    assert query.get("z", "none") == "none"
    assert (query.get("a", type=int), query.get("d", 7, type=int), query.getlist("a", int)) == (1, 7, [1, 2])
    assert query.to_dict() == dict(query)
    assert query.to_dict(flat=False)["a"] == ["1", "2"]
    assert list(query.items(multi=True))[:3] == [("a", "1"), ("a", "2"), ("b", "")]
    assert [key for key, _ in query.lists()] == list(query)
    assert next(query.listvalues()) == ["1", "2"]
    assert json.loads(json.dumps(query)) == query


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/a%20b%2Fc?x=1?y", "/a b/c", "x=1?y"),
        (b"//twice", "//twice", ""),
        (b"http://example.org", "/", ""),
        (b"http://example.org:80/p?q", "/p", "q"),
        (b"*", "*", ""),
        (b"/%FF%C3%A9", "/�é", ""),
        (b"/\xc3\xa9", "/é", ""),
    ],
)
def test_a_target_is_split_into_path_and_query(target: bytes, path: str, query: str) -> None:
    assert event(target).path == path
    assert event(target).query == Query(query)


def test_the_raw_path_is_unchanged() -> None:
    assert event(b"/a%2Fb%20c//d?x=1").raw_path == "/a%2Fb%20c//d"
    assert event(b"http://example.org/a%2Fb?x").raw_path == "/a%2Fb"


def test_vars_of_a_context_shows_its_fields() -> None:
    assert vars(Context("7")) == {"hostname": Context("").hostname, "call_id": "7"}


def test_an_event_can_be_changed_and_names_its_fields_for_an_unknown_one() -> None:
    changed = event(b"/p?a=1")
    changed.body = b"other"
    changed.path = "/q"
    assert (changed.body, changed.path, changed.method) == (b"other", "/q", "POST")
    changed.user = "who"  # type: ignore[attr-defined]
    assert vars(changed) == {
        "body": b"other", "headers": {}, "method": "POST", "query": {"a": "1"}, "path": "/q", "user": "who",
    }  # fmt: skip
    with pytest.raises(AttributeError, match="an event has no 'form': it has body, headers"):
        _ = changed.form


@given(st.binary(max_size=60))
def test_any_target_is_split_or_refused(target: bytes) -> None:
    try:
        path, query = split_target(target)
    except ValueError:
        return
    assert isinstance(path, str)
    assert isinstance(query, str)
    if target.startswith(b"/"):
        seen = event(target)
        assert isinstance(seen.path, str)
        assert isinstance(seen.query, dict)
