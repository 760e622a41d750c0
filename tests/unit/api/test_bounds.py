"""A body that is longer than allowed is refused, whether it says so or not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import httpx2
import pytest
from fastapi import Body, FastAPI, Request
from starlette.responses import PlainTextResponse

from rescoldo.api.bounds import BoundedBodies
from rescoldo.api.errors import install_error_handlers


def app() -> FastAPI:
    made = FastAPI()
    install_error_handlers(made)
    made.add_middleware(BoundedBodies, most=100)

    @made.post("/raw")
    async def take(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    @made.post("/json")
    async def read(found: Annotated[str, Body()]) -> PlainTextResponse:
        return PlainTextResponse(str(len(found)))

    return made


async def chunks(number: int) -> AsyncIterator[bytes]:
    for _ in range(number):
        yield b"x" * 10


@pytest.mark.parametrize(("size", "status"), [(0, 200), (100, 200), (101, 413), (10**6, 413)])
async def test_of_a_said_length(size: int, status: int) -> None:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app()), base_url="http://x") as client:
        answer = await client.post("/raw", content=b"x" * size)
    assert answer.status_code == status
    assert answer.text == (str(size) if status == 200 else "Request Entity Too Large: POST /raw")


@pytest.mark.parametrize(("number", "status"), [(10, 200), (11, 413)])
async def test_of_an_unknown_length(number: int, status: int) -> None:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app()), base_url="http://x") as client:
        assert (await client.post("/raw", content=chunks(number))).status_code == status


@pytest.mark.parametrize(("size", "status"), [(98, 200), (99, 413)])
async def test_of_json_that_the_framework_reads(size: int, status: int) -> None:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app()), base_url="http://x") as client:
        assert (await client.post("/json", json="x" * size)).status_code == status
