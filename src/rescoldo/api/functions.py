"""/system/functions, /system/function and /system/scale-function."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from rescoldo.api.bodies import (
    DeleteFunction,
    FunctionDeployment,
    FunctionStatusBody,
    ScaleFunction,
    read_body,
    status_to_json,
    takes,
)
from rescoldo.api.references import InQuery, namespace_of, reference, same_function
from rescoldo.control.platform import Platform
from rescoldo.model.errors import NotFound
from rescoldo.model.function import FunctionStatus

YES = ("1", "true")
BATCH = 100  # functions turned into JSON (about 1 ms) before the event loop has its turn: wakes go first


def functions_router(platform: Platform) -> APIRouter:
    """Routes that deploy, list, remove and scale functions."""
    router = APIRouter()

    @router.get("/system/functions", responses={200: {"model": list[FunctionStatusBody]}})
    async def list_functions(namespace: InQuery) -> Response:
        # A name that is mistyped would look like an empty namespace: 404 says so
        chosen = namespace_of(namespace)
        if chosen not in await platform.namespaces():
            raise NotFound(f"namespace {chosen[:80]!r} does not exist; see `rescoldo namespace list`")
        statuses = await platform.functions(chosen)
        return StreamingResponse(_json_array(statuses), media_type="application/json")

    @router.post("/system/functions", status_code=202, openapi_extra=takes(FunctionDeployment))
    async def deploy(request: Request, namespace: InQuery) -> Response:
        body = await read_body(request, FunctionDeployment)
        await platform.deploy(body.to_spec(namespace), must_exist=False)
        return Response(status_code=202)

    @router.put("/system/functions", status_code=202, openapi_extra=takes(FunctionDeployment))
    async def update(request: Request, namespace: InQuery) -> Response:
        body = await read_body(request, FunctionDeployment)
        await platform.deploy(body.to_spec(namespace), must_exist=True)
        return Response(status_code=202)

    @router.delete("/system/functions", status_code=202, openapi_extra=takes(DeleteFunction))
    async def remove(request: Request, namespace: InQuery) -> Response:
        body = await read_body(request, DeleteFunction)
        await platform.remove(reference(body.function_name, namespace, body.namespace))
        return Response(status_code=202)

    @router.get("/system/function/{name}", responses={200: {"model": FunctionStatusBody}, 404: {}})
    async def describe(name: str, namespace: InQuery, usage: str = "", why: str = "") -> Response:
        try:
            status = await platform.function(reference(name, namespace), usage=usage in YES, why=why in YES)
        except NotFound:
            return Response(status_code=404)  # the contract's is empty; faas-cli has words of its own
        return Response(json.dumps(status_to_json(status)), media_type="application/json")

    @router.post("/system/scale-function/{name}", status_code=202, openapi_extra=takes(ScaleFunction))
    async def scale(request: Request, name: str, namespace: InQuery) -> Response:
        body = await read_body(request, ScaleFunction)
        await platform.scale(same_function(name, body.service_name, namespace, body.namespace), body.replicas)
        return Response(status_code=202)

    return router


async def _json_array(statuses: Sequence[FunctionStatus]) -> AsyncIterator[bytes]:
    yield b"["
    for start in range(0, len(statuses), BATCH):
        items = [json.dumps(status_to_json(status)) for status in statuses[start : start + BATCH]]
        yield ((", " if start else "") + ", ".join(items)).encode()
        await asyncio.sleep(0)
    yield b"]"
