"""rescoldo.testing: events and responses as the platform makes them."""

import asyncio
import functools
import os
import sys
from pathlib import Path

import pytest

from rescoldo.runtime.imports import forget_package
from rescoldo.runtime.results import InvalidResponse
from rescoldo.testing import call, call_async, context, event, load


@pytest.fixture(autouse=True)
def no_handler_stays():
    """Forget the handler: other tests fork this process and load handlers of their own."""
    yield
    forget_package("function")


def test_an_event_has_the_given_values():
    made = event("/a b?x=1&x=2", method="PUT", body="ä", headers={"x-own": "1"}, query={"y": "ü&"})
    assert (made.method, made.path, made.body) == ("PUT", "/a b", "ä".encode())
    assert made.query == {"x": "1", "y": "ü&"} and made.query.getlist("x") == ["1", "2"]
    assert made.headers["X-Own"] == "1" and "Content-Type" not in made.headers


def test_headers_may_be_repeated():
    assert event(headers=[("Accept", "a"), ("accept", "b")]).headers.getlist("ACCEPT") == ["a", "b"]


def test_json_sets_the_body_and_its_content_type():
    made = event(json={"a": 1})
    assert (made.body, made.headers["content-type"]) == (b'{"a": 1}', "application/json")
    assert event(json=1, headers={"content-type": "own"}).headers.getlist("content-type") == ["own"]
    with pytest.raises(TypeError):
        event(json=1, body="x")


def test_an_event_is_an_empty_post_by_default():
    made = event()
    assert (made.method, made.path, made.body, made.query) == ("POST", "/", b"", {})


def sync(event, context):
    return {"statusCode": 201, "headers": {"Set-Cookie": ["a", "b"], "X-A": "1"}, "body": {"id": context.call_id}}


async def on_loop(event, context):
    await asyncio.sleep(0)
    return event.body


@functools.wraps(on_loop)
def decorated(event, context):
    return on_loop(event, context)


def pieces(event, context):
    yield "a"
    yield b"b"


async def async_pieces(event, context):
    yield "a"
    await asyncio.sleep(0)
    yield b"b"


def test_a_result_with_status_headers_and_body_is_taken_apart():
    answer = call(sync, event(headers={"X-Call-Id": "7"}))
    assert (answer.status, answer.json(), answer.headers["x-a"]) == (201, {"id": "7"}, "1")
    assert answer.headers.getlist("Set-Cookie") == ["a", "b"]
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("handle", [on_loop, decorated])
def test_async_handlers_are_awaited(handle):
    assert call(handle, event(body="x")).body == b"x"


async def test_in_an_async_test_a_handler_runs_on_the_tests_loop():
    assert (await call_async(on_loop, event(body="x"))).text == "x"


@pytest.mark.parametrize("handle", [pieces, async_pieces])
def test_a_stream_is_read_to_its_end(handle):
    answer = call(handle)
    assert (answer.status, answer.body, answer.chunks) == (200, b"ab", (b"a", b"b"))


def test_a_classic_handler_gets_text():
    answer = call(lambda req: req.upper(), event(body="ada"))
    assert (answer.text, answer.headers["content-type"]) == ("ADA", "text/plain; charset=utf-8")
    assert call(lambda req: {"statusCode": 3}).json() == {"statusCode": 3}


def test_a_classic_handler_has_its_variables_and_its_output_is_the_response(capsys):
    def handle(req):
        print(os.environ["PATH_INFO"], os.environ["REQUEST_METHOD"], req)

    answer = call(handle, event("/a", method="PUT", body="x"))
    assert (answer.text, capsys.readouterr().out) == ("/a PUT x\n", "")
    assert "PATH_INFO" not in os.environ
    print("after")
    assert capsys.readouterr().out == "after\n"
    assert call(lambda req: sys.exit("no")).status == 500


def test_flasks_tuples_are_responses():
    answer = call(lambda event, context: ("made", 201, {"X-A": "1"}))
    assert (answer.status, answer.text, answer.headers["X-A"]) == (201, "made", "1")


def test_an_invalid_result_raises_with_the_reason():
    with pytest.raises(InvalidResponse, match="value of type object"):
        call(lambda event, context: object())


def test_the_context_is_like_the_platforms():
    assert context("9").call_id == "9" and context().hostname


def test_a_folder_is_loaded_again_each_time(tmp_path: Path):
    for name, text in (("one", "1"), ("two", "2")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "value.py").write_text(f"VALUE = {text}\n")
        (folder / "handler.py").write_text(
            "import value\nfrom .value import VALUE\nfrom function.value import VALUE as SAME\n"
            "assert value.VALUE == SAME\nCALLS = []\n\n\n"
            "def handle(event, context):\n    CALLS.append(1)\n    return [VALUE, SAME, len(CALLS)]\n"
        )
    one = load(tmp_path / "one")
    assert [call(one).json(), call(one).json()] == [[1, 1, 1], [1, 1, 2]]
    assert call(load(str(tmp_path / "two"))).json() == [2, 2, 1]
    assert call(load(tmp_path / "one")).json() == [1, 1, 1]
    (tmp_path / "one" / "__init__.py").write_text("HERE = 5\n")
    (tmp_path / "one" / "handler.py").write_text("from . import HERE\n\n\ndef handle(req):\n    return HERE\n")
    assert call(load(tmp_path / "one")).text == "5"


def test_a_folder_without_a_handler_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"no handler\.py"):
        load(tmp_path)
