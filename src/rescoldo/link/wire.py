"""The link's messages as JSON. Any other object is InvalidInput: a worker and its control may differ by a version."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import asdict, astuple
from typing import Any, TypeVar

from rescoldo.link.protocol import Change, Counts, Delivery, Report
from rescoldo.link.refusals import MOST_REASON
from rescoldo.link.strict import check_values, read_document
from rescoldo.model import deployed
from rescoldo.model.errors import InvalidInput
from rescoldo.model.names import FunctionId, RouteKey
from rescoldo.policy.grants import Grant
from rescoldo.store.protocol import Bundle, MinuteUsage

MOST_SENDER = 320  # characters: a pod's name has at most 253
MOST_REPORTED = 100_000  # functions in each part of a report

T = TypeVar("T")


def encode_delivery(delivery: Delivery) -> dict[str, Any]:
    """A function with what it needs; secrets in base64."""
    secrets = {name: b64encode(value).decode() for name, value in delivery.secrets.items()}
    document = deployed.to_json(delivery.document)
    return {"document": document, "layers": dict(delivery.layers), "secrets": secrets}


def decode_delivery(found: Any) -> Delivery:
    """Read `encode_delivery`'s object. Raises InvalidInput, also for a document that this version does not understand
    as a whole (strict.py)."""

    def read() -> Delivery:
        secrets = {str(name): b64decode(value, validate=True) for name, value in found["secrets"].items()}
        layers = {str(digest): str(layer) for digest, layer in found["layers"].items()}
        return Delivery(read_document(found["document"]), layers, secrets)

    delivery = _read("a delivery", read)
    check_values(delivery.document)
    return delivery


def encode_secrets(values: Mapping[str, bytes]) -> dict[str, str]:
    """Values in base64, by name."""
    return {name: b64encode(value).decode() for name, value in values.items()}


def decode_secrets(found: Any) -> dict[str, bytes]:
    """Read `encode_secrets`'s object. Raises InvalidInput."""
    return _read("secrets", lambda: {str(name): b64decode(value, validate=True) for name, value in found.items()})


def encode_change(change: Change | None) -> bytes:
    """A line of the stream of changes; an empty object is a sign of life."""
    found: dict[str, Any] = {} if change is None else {"function": change.function, "version": change.version}
    if change is not None and change.mark:
        found["mark"] = change.mark
    return json.dumps(found).encode() + b"\n"


def decode_change(line: str) -> Change | None:
    """Read a line of the stream of changes. Raises InvalidInput."""

    def read() -> Change | None:
        found = json.loads(line)
        if not found:
            return None
        return Change(_function(found["function"]), int(found["version"]), int(found.get("mark", 0)))

    return _read("a change", read)


def encode_image(bundle: Bundle, layer: str) -> dict[str, Any]:
    """The bundle of an image, and its layer."""
    return {**asdict(bundle), "layer": layer}


def decode_image(found: Any) -> tuple[Bundle, str]:
    """Read `encode_image`'s object. Raises InvalidInput."""

    def read() -> tuple[Bundle, str]:
        layer = str(found.pop("layer"))
        return Bundle(**found), layer

    return _read("an image", read)


def encode_counts(counts: Counts) -> dict[str, Any]:
    """A batch of counts; rows as lists, in the order of MinuteUsage's fields."""
    return {"sender": counts.sender, "number": counts.number, "rows": list(map(astuple, counts.rows))}


def decode_counts(found: Any) -> Counts:
    """Read `encode_counts`'s object. Raises InvalidInput."""

    def read() -> Counts:
        rows = tuple(_row(*row) for row in found["rows"])
        return Counts(str(found["sender"]), int(found["number"]), rows)

    return _read("a batch of counts", read)


def encode_report(report: Report) -> dict[str, Any]:
    """What a worker runs and serves."""
    return asdict(report)


def decode_report(found: Any) -> Report:
    """Read `encode_report`'s object. Raises InvalidInput, also for one that is larger than any worker's."""

    def read() -> Report:
        tables = [dict(found[name]) for name in ("awake", "applied", "refused")]
        sender, awake, applied, refused = str(found["sender"]), *tables
        marks = None if found.get("marks") is None else dict(found["marks"])
        earlier = str(found.get("earlier", ""))
        most = max(len(one) for one in (*tables, marks or {}))
        if max(len(sender), len(earlier)) > MOST_SENDER or most > MOST_REPORTED:
            raise ValueError("it is too large")
        reasons = {_function(name): str(reason) for name, reason in refused.items()}
        known = None if marks is None else _numbers(marks)
        return Report(sender, _numbers(awake), _numbers(applied), reasons, known, bool(found.get("left")), earlier)

    report = _read("a report", read)
    if any(len(reason) > MOST_REASON for reason in report.refused.values()):
        raise InvalidInput(f"a report has a reason of more than {MOST_REASON} characters")
    return report


def encode_grant(grant: Grant) -> dict[str, Any]:
    """The answer to a worker that asks for a grant."""
    return asdict(grant)


def decode_grant(found: Any) -> Grant:
    """Read `encode_grant`'s object. Raises InvalidInput."""

    def read() -> Grant:
        seconds, retry_after = float(found["seconds"]), float(found["retry_after"])
        return Grant(seconds, str(found["token"]), retry_after, bool(found["wanted"]))

    return _read("a grant", read)


def decode_grant_request(found: Any) -> tuple[FunctionId, str, str]:
    """Read function, sender and token (empty: it asks for a grant) of a worker's request. Raises InvalidInput."""

    def read() -> tuple[FunctionId, str, str]:
        function, sender, token = _function(found["function"]), str(found["sender"]), str(found.get("token", ""))
        if not sender or max(len(function), len(sender), len(token)) > MOST_SENDER:
            raise ValueError("a name is missing or too long")
        return function, sender, token

    return _read("a request for a grant", read)


def decode_document(found: Any) -> deployed.Deployed:
    """Read a document. Raises InvalidInput."""
    return _read("a function's document", lambda: read_document(found))


def _row(function: Any, minute: Any, status: Any, cold: Any, *numbers: Any) -> MinuteUsage:
    calls, queue_ms, run_ms, bytes_in, bytes_out = map(int, numbers)
    return MinuteUsage(
        _function(function), int(minute), int(status), bool(cold), calls, queue_ms, run_ms, bytes_in, bytes_out
    )


def _numbers(found: dict[Any, Any]) -> dict[FunctionId, int]:
    numbers = {_function(function): int(number) for function, number in found.items()}
    if any(number < 0 for number in numbers.values()):
        raise ValueError("a number is negative")
    return numbers


def _function(text: Any) -> FunctionId:
    return FunctionId(RouteKey(str(text)))


def _read(what: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(f"{what} cannot be read: {type(error).__name__}: {error}") from error
