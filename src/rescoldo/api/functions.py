"""/system/functions and /system/function: the deployed functions and their status."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from rescoldo.api.bodies import FunctionStatusBody, status_to_json
from rescoldo.api.protocol import Namespaces, Statuses
from rescoldo.api.references import InQuery, namespace_of, reference
from rescoldo.model.errors import NotFound
from rescoldo.model.function import FunctionStatus

YES = ("1", "true")
BATCH = 100  # functions to turn into JSON (about 1 ms) before yielding to the event loop: wakes go first


def functions_router(statuses: Statuses, namespaces: Namespaces) -> APIRouter:
    """Routes that list and describe functions."""
    router = APIRouter()

    @router.get("/system/functions", responses={200: {"model": list[FunctionStatusBody]}})
    async def list_functions(namespace: InQuery) -> Response:
        # a mistyped name would look like an empty namespace: answer 404
        chosen = namespace_of(namespace)
        if chosen not in namespaces.names():
            raise NotFound(f"namespace {chosen[:80]!r} does not exist; see `rescoldo namespace list`")
        return StreamingResponse(_json_array(statuses.functions(chosen)), media_type="application/json")

    @router.get("/system/function/{name}", responses={200: {"model": FunctionStatusBody}, 404: {}})
    async def describe(name: str, namespace: InQuery, usage: str = "", why: str = "") -> Response:
        try:
            status = await statuses.function(reference(name, namespace), usage=usage in YES, why=why in YES)
        except NotFound:
            return Response(status_code=404)  # empty by the contract; faas-cli prints its own message
        return Response(json.dumps(status_to_json(status)), media_type="application/json")

    return router


async def _json_array(statuses: Sequence[FunctionStatus]) -> AsyncIterator[bytes]:
    yield b"["
    for start in range(0, len(statuses), BATCH):
        items = [json.dumps(status_to_json(status)) for status in statuses[start : start + BATCH]]
        yield ((", " if start else "") + ", ".join(items)).encode()
        await asyncio.sleep(0)
    yield b"]"
