"""/system/logs: a function's log lines as newline-delimited JSON, each sent as soon as it is read."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import APIRouter
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from rescoldo.api.bodies import rfc3339
from rescoldo.api.protocol import Logs
from rescoldo.api.references import reference
from rescoldo.model.errors import InvalidInput, RescoldoError
from rescoldo.model.instance import LogLine
from rescoldo.model.names import FunctionId, InstanceId, split_id
from rescoldo.model.units import parse_duration

DEFAULT_SINCE = 300.0  # seconds before now, when the query has neither `since` nor `tail`
_TRUE = ("1", "t", "T", "true", "TRUE", "True")  # the values that Go's ParseBool accepts
_FALSE = ("", "0", "f", "F", "false", "FALSE", "False")


class BadLogQuery(InvalidInput):
    """The query of /system/logs is not valid."""

    status = 422


@dataclass(frozen=True, slots=True)
class LogQuery:
    """The parsed query of /system/logs."""

    function: FunctionId
    instance: str  # "": all
    tail: int | None  # lines; None: all
    since: float | None  # Unix seconds
    follow: bool


def logs_router(lines: Logs) -> APIRouter:
    """The route that reads and follows logs."""
    router = APIRouter()
    names = ("name", "namespace", "instance", "tail", "since", "follow")
    parameters = [
        {"name": name, "in": "query", "required": name == "name", "schema": {"type": "string"}} for name in names
    ]

    text = {"application/x-ndjson": {"schema": {"type": "string"}}}

    @router.get("/system/logs", openapi_extra={"parameters": parameters}, responses={200: {"content": text}})
    async def logs(request: Request) -> Response:
        query = parse_log_query(request.query_params, time.time())
        found = lines.read(
            query.function, tail=query.tail, since=query.since, follow=query.follow, instance=query.instance
        )
        # X-Accel-Buffering: proxies on the way to the client must not collect lines
        headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
        stop: asyncio.Event = request.app.state.stop
        return StreamingResponse(
            _encode(_until(found, stop), query.function), media_type="application/x-ndjson", headers=headers
        )

    return router


def parse_log_query(query: QueryParams, now: float) -> LogQuery:
    """Read the query of /system/logs; `now` is in Unix seconds. Raises BadLogQuery (422)."""
    try:
        function = reference(query.get("name", ""), *query.getlist("namespace"))
        tail = _tail(query.get("tail", ""))
        since = _since(query.get("since", ""), now)
    except InvalidInput as error:
        raise BadLogQuery(error.message) from error
    if "tail" not in query and since is None:
        since = now - DEFAULT_SINCE
    follow = query.get("follow", "")
    if follow not in _TRUE and follow not in _FALSE:
        raise BadLogQuery(f"follow: {follow[:80]!r} is not allowed; use true or false")
    return LogQuery(function, query.get("instance", ""), tail, since, follow in _TRUE)


def _tail(text: str) -> int | None:
    """The number of lines; None, for all, when the text is empty, 0 or -1. Raises InvalidInput."""
    if text in ("", "-1"):
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidInput(f"tail: {text[:80]!r} is not allowed; use a number of lines")
    return int(text) or None


def _since(text: str, now: float) -> float | None:
    """Unix seconds from an RFC 3339 time or a duration before now; None for an empty text. Raises InvalidInput."""
    if not text:
        return None
    try:
        # an unescaped + of a time zone arrives as a space
        moment = datetime.fromisoformat(text.replace(" ", "+"))
        if moment.tzinfo is not None:
            return moment.timestamp()
    except (ValueError, OverflowError):
        try:
            return now - parse_duration(text, "since")
        except InvalidInput:
            pass  # the error below names both forms
    raise InvalidInput(
        f"since: {text[:80]!r} is not allowed; use a time such as 2026-01-31T12:00:00Z or a duration such as 10m"
    )


async def _until(lines: AsyncIterator[LogLine], stop: asyncio.Event) -> AsyncGenerator[LogLine, None]:
    """Pass `lines` on until they end, the client leaves (GeneratorExit, CancelledError) or `stop` is set."""
    stopping = asyncio.ensure_future(stop.wait())
    line: asyncio.Future[LogLine] | None = None
    try:
        while True:
            line = asyncio.ensure_future(_next(lines))
            await asyncio.wait({line, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not line.done():
                return
            yield line.result()
    except _Ended:
        return
    finally:
        tasks: list[asyncio.Future[Any]] = [stopping] if line is None else [line, stopping]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        if isinstance(lines, AsyncGenerator):
            await lines.aclose()


class _Ended(Exception):
    """The end of the lines, in place of StopAsyncIteration, which a task does not pass to a generator unharmed."""


async def _next(lines: AsyncIterator[LogLine]) -> LogLine:
    try:
        return await anext(lines)
    except StopAsyncIteration as end:
        raise _Ended from end


async def _encode(lines: AsyncGenerator[LogLine, None], function: FunctionId) -> AsyncIterator[bytes]:
    async with aclosing(lines):
        try:
            async for line in lines:
                yield _to_json(line)
        except RescoldoError as error:
            # the status was sent long ago, so the stream itself says why it ends
            text = f"rescoldo: these logs end here: {error.message}"
            yield _to_json(LogLine(function, InstanceId(""), time.time(), text))


def _to_json(line: LogLine) -> bytes:
    name, namespace = split_id(line.function)
    body = {
        "name": name,
        "namespace": namespace,
        "instance": line.instance,
        "timestamp": rfc3339(line.timestamp),
        "text": line.text,
    }
    return json.dumps(body).encode() + b"\n"
