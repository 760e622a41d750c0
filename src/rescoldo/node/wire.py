"""The format between the node process and its clients: JSON lines over a Unix socket.

  client → node   {"id": n, "op": "start", ...}          the client chooses ids, unique in a connection
  node → client   {"id": n, "ok": result}                once for each request, or
                  {"id": n, "error": [class, message, retry_after]}
                  {"id": n, "item": ...}                 any number before the end of a streaming request; before the
                                                         end of a start the address of a program that binds its own
                                                         socket

`logs` and `watch` stream. A client opens a separate connection for each, so that a slow reader delays no other
request; closing the connection ends the stream.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rescoldo.model import errors
from rescoldo.model.instance import LogLine
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.model.text import read_json

MAX_LINE = 4 * 2**20  # bytes of one message

_ERRORS: dict[str, type[errors.RescoldoError]] = {
    kind.__name__: kind
    for kind in (
        errors.RescoldoError,
        errors.InvalidInput,
        errors.NotFound,
        errors.Conflict,
        errors.Busy,
        errors.NodeUnavailable,
        errors.StartFailed,
        errors.StartTimeout,
    )
}


def encode(message: Mapping[str, Any]) -> bytes:
    """Encode one message."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Decode one message; raises ValueError."""
    message = read_json(line)
    if not isinstance(message, dict):
        raise ValueError("a message must be an object")
    return message


def encode_error(error: errors.RescoldoError) -> list[Any]:
    """Encode an error; a class that the other side does not know becomes RescoldoError."""
    name = type(error).__name__
    retry_after = error.retry_after if isinstance(error, errors.Busy) else None
    return [name if name in _ERRORS else "RescoldoError", error.message, retry_after]


def decode_error(data: list[Any]) -> errors.RescoldoError:
    """Decode an error that `encode_error` wrote."""
    name, message, retry_after = data
    kind = _ERRORS.get(name, errors.RescoldoError)
    if issubclass(kind, errors.Busy) and retry_after is not None:
        return kind(message, retry_after=retry_after)
    return kind(message)


def encode_line(line: LogLine) -> list[Any]:
    """Encode a log line, without its function, which both sides know."""
    return [line.timestamp, line.instance, line.text]


def decode_line(function: FunctionId, data: list[Any]) -> LogLine:
    """Decode a line that `encode_line` wrote."""
    timestamp, instance, text = data
    return LogLine(function, InstanceId(instance), timestamp, text)
