from __future__ import annotations

import pytest

from rescoldo.model.errors import Busy, NodeUnavailable, NotBuilt, RescoldoError, StartFailed, StartTimeout
from rescoldo.node.wire import decode, decode_error, encode, encode_error


@pytest.mark.parametrize(
    "error", [StartFailed("a\nb"), StartTimeout(), Busy("full", retry_after=7.0), NodeUnavailable()]
)
def test_errors_arrive_unchanged(error: RescoldoError) -> None:
    back = decode_error(decode(encode({"error": encode_error(error)}))["error"])
    assert (type(back), back.message) == (type(error), error.message)
    assert getattr(back, "retry_after", None) == getattr(error, "retry_after", None)


def test_an_error_that_the_wire_does_not_know_arrives_as_a_plain_one() -> None:
    back = decode_error(encode_error(NotBuilt("later")))
    assert (type(back), back.message) == (RescoldoError, "later")


@pytest.mark.parametrize("line", [b"", b"[]\n", b"{\n", b"\xff\n", b"[" * 4090 + b"]" * 4090])
def test_an_invalid_message_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError):
        decode(line)
