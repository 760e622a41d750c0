"""/system/logs: queries, the format of a line, and following."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from fake_platform import FakePlatform
from httpx2 import AsyncClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from rescoldo.api.logs import BadLogQuery, LogQuery, parse_log_query
from rescoldo.model.errors import NodeUnavailable
from rescoldo.model.function import FunctionSpec
from rescoldo.model.names import function_id

NOW = 1_700_000_000.0
ECHO = function_id("echo")


def parsed(**query: str) -> LogQuery:
    return parse_log_query(QueryParams({"name": "echo"} | query), NOW)


def test_the_last_five_minutes_are_the_default() -> None:
    assert parsed() == LogQuery(ECHO, "", tail=None, since=NOW - 300, follow=False)
    assert parsed(follow="true") == LogQuery(ECHO, "", tail=None, since=NOW - 300, follow=True)


def test_a_tail_alone_covers_all_lines_that_are_kept() -> None:
    assert parsed(tail="20") == LogQuery(ECHO, "", tail=20, since=None, follow=False)


@pytest.mark.parametrize("tail", ["0", "-1", ""])
def test_a_zero_negative_or_empty_tail_means_all_lines(tail: str) -> None:
    assert parsed(tail=tail).tail is None


@pytest.mark.parametrize(
    ("since", "seconds"),
    [
        ("10m", NOW - 600),
        ("90", NOW - 90),
        ("1h30m", NOW - 5400),
        ("2023-11-14T22:00:00Z", NOW - 800),
        ("2023-11-14T23:00:00+01:00", NOW - 800),
        ("2023-11-14T23:00:00 01:00", NOW - 800),  # a + that was not escaped
        ("2023-11-14T22:00:00.500000000Z", NOW - 799.5),  # Go's nanoseconds
    ],
)
def test_since_is_a_time_or_a_duration(since: str, seconds: float) -> None:
    assert parsed(since=since).since == seconds


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ({"name": ""}, "function name"),
        ({"name": "Bad!"}, "'Bad!'"),
        ({"namespace": "Bad!"}, "namespace"),
        ({"tail": "many"}, "tail"),
        ({"tail": "-5"}, "tail"),
        ({"tail": "9" * 30}, "tail"),
        ({"since": "yesterday"}, "10m"),
        ({"since": "2023-11-14T22:00:00"}, "since"),  # the time zone is missing
        ({"follow": "maybe"}, "true or false"),
    ],
)
async def test_a_bad_query_is_a_422_with_the_reason(client: AsyncClient, query: dict[str, str], word: str) -> None:
    answer = await client.get("/system/logs", params={"name": "echo"} | query)
    assert answer.status_code == 422
    assert word in answer.text


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(["name", "namespace", "tail", "since", "follow"]), st.text()))
def test_any_query_is_parsed_or_refused(query: dict[str, str]) -> None:
    try:
        assert parse_log_query(QueryParams(query), NOW).function
    except BadLogQuery as error:
        assert error.status == 422


async def test_the_query_reaches_the_platform(client: AsyncClient, platform: FakePlatform) -> None:
    await platform.deploy(FunctionSpec("echo", "i"), must_exist=False)
    await client.get("/system/logs?name=echo.openfaas-fn&tail=3&since=2023-11-14T22:00:00Z&instance=i-1")
    assert platform.log_queries == [
        {"tail": 3, "since": 1_699_999_200.0, "follow": False, "instance": "i-1"},
    ]


async def test_logs_of_an_unknown_function_are_404(client: AsyncClient) -> None:
    answer = await client.get("/system/logs?name=none")
    assert answer.status_code == 404


async def test_each_line_is_one_json_object(client: AsyncClient, platform: FakePlatform) -> None:
    await platform.deploy(FunctionSpec("echo", "i"), must_exist=False)
    await platform.write_line(ECHO, 'one "quoted"\n\x00 ü')
    await platform.write_line(ECHO, "two")
    answer = await client.get("/system/logs?name=echo")
    assert answer.headers["content-type"] == "application/x-ndjson"
    first, second = (json.loads(line) for line in answer.text.splitlines())
    assert datetime.fromisoformat(first.pop("timestamp")).timestamp() == 1_700_000_000.5
    assert first == {
        "name": "echo",
        "namespace": "openfaas-fn",
        "instance": "i-1",
        "text": 'one "quoted"\n\x00 ü',
    }
    assert second["text"] == "two"


async def test_a_broken_stream_ends_with_the_reason(client: AsyncClient, platform: FakePlatform) -> None:
    await platform.deploy(FunctionSpec("echo", "i"), must_exist=False)
    await platform.write_line(ECHO, "one")
    platform.failure = NodeUnavailable()
    answer = await client.get("/system/logs?name=echo")
    first, last = (json.loads(line) for line in answer.text.splitlines())
    assert first["text"] == "one"
    assert (last["name"], last["instance"]) == ("echo", "")
    assert "the node is restarting" in last["text"].lower()
