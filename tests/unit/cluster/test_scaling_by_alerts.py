"""What an alert scales is scaled by the function's owner, and a refusal keeps its status."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from rescoldo.cluster.protocol import MOST_TEXT, Answered, Asked, NoOwner
from rescoldo.cluster.scaling import NotScaled, OwnersScaling
from rescoldo.model.names import function_id

OTHER = function_id("other", "blue")


class Owners:
    def __init__(self, status: int, text: bytes = b"") -> None:
        self.status, self.text = status, text
        self.asked: list[Asked] = []

    @asynccontextmanager
    async def ask(self, asked: Asked) -> AsyncIterator[Answered]:
        self.asked.append(asked)
        if not self.status:
            raise NoOwner("nobody")

        async def chunks() -> AsyncIterator[bytes]:
            yield self.text[:10]
            yield self.text[10:]

        yield Answered(self.status, {}, chunks())


async def test_the_owner_is_asked_as_a_client_would_ask() -> None:
    owners = Owners(202)
    await OwnersScaling(owners).scale(OTHER, 4)
    (asked,) = owners.asked
    assert (asked.function, asked.method) == (OTHER, "POST")
    assert asked.target == "/system/scale-function/other?namespace=blue"
    assert json.loads(asked.body) == {"serviceName": "other", "replicas": 4}
    assert asked.headers == {"content-type": "application/json"}


@pytest.mark.parametrize("status", [409, 503])
async def test_a_refusal_keeps_status_and_reason(status: int) -> None:
    with pytest.raises(NotScaled, match="it is paused") as refused:
        await OwnersScaling(Owners(status, b"it is paused, so it has no instances\n")).scale(OTHER, 4)
    assert refused.value.status == status


async def test_a_reason_is_bounded() -> None:
    with pytest.raises(NotScaled) as refused:
        await OwnersScaling(Owners(500, b"x" * 10_000)).scale(OTHER, 4)
    assert len(refused.value.message) == MOST_TEXT


async def test_without_an_owner_it_is_a_503_which_alertmanager_retries() -> None:
    with pytest.raises(NoOwner) as missing:
        await OwnersScaling(Owners(0)).scale(OTHER, 4)
    assert missing.value.status == 503
