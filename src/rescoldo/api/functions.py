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
from rescoldo.control.platform import Platform
from rescoldo.model.errors import NotFound
from rescoldo.model.function import FunctionStatus
from rescoldo.model.names import DEFAULT_NAMESPACE, FunctionId, check_name, function_id, parse_reference

YES = ("1", "true")
BATCH = 100  # functions turned into JSON (about 1 ms) before the event loop has its turn: wakes go first


def functions_router(platform: Platform) -> APIRouter:
    """Routes that deploy, list, remove and scale functions."""
    router = APIRouter()

    @router.get("/system/functions", responses={200: {"model": list[FunctionStatusBody]}})
    async def list_functions(namespace: str = "") -> Response:
        # A name that is mistyped would look like an empty namespace: 404 says so
        chosen = namespace or DEFAULT_NAMESPACE
        if chosen not in await platform.namespaces():
            raise NotFound(f"namespace {chosen[:80]!r} does not exist; see `rescoldo namespace list`")
        statuses = await platform.functions(chosen)
        return StreamingResponse(_json_array(statuses), media_type="application/json")

    @router.post("/system/functions", status_code=202, openapi_extra=takes(FunctionDeployment))
    async def deploy(request: Request) -> Response:
        body = await read_body(request, FunctionDeployment)
        await platform.deploy(body.to_spec(), must_exist=False)
        return Response(status_code=202)

    @router.put("/system/functions", status_code=202, openapi_extra=takes(FunctionDeployment))
    async def update(request: Request) -> Response:
        body = await read_body(request, FunctionDeployment)
        await platform.deploy(body.to_spec(), must_exist=True)
        return Response(status_code=202)

    @router.delete("/system/functions", status_code=202, openapi_extra=takes(DeleteFunction))
    async def remove(request: Request) -> Response:
        body = await read_body(request, DeleteFunction)
        await platform.remove(reference(body.function_name, body.namespace))
        return Response(status_code=202)

    @router.get("/system/function/{name}", responses={200: {"model": FunctionStatusBody}, 404: {}})
    async def describe(name: str, namespace: str = "", usage: str = "", why: str = "") -> Response:
        try:
            status = await platform.function(reference(name, namespace), usage=usage in YES, why=why in YES)
        except NotFound:
            return Response(status_code=404)  # the contract's is empty; faas-cli has words of its own
        return Response(json.dumps(status_to_json(status)), media_type="application/json")

    @router.post("/system/scale-function/{name}", status_code=202, openapi_extra=takes(ScaleFunction))
    async def scale(request: Request, name: str, namespace: str = "") -> Response:
        body = await read_body(request, ScaleFunction)
        await platform.scale(reference(name, body.namespace or namespace), body.replicas)
        return Response(status_code=202)

    return router


def reference(name: str, namespace: str) -> FunctionId:
    """The function meant by a name and a namespace, or by NAME.NS alone; raises InvalidInput."""
    if not namespace:
        return function_id(*parse_reference(name))
    return function_id(check_name(name), check_name(namespace, "namespace"))


async def _json_array(statuses: Sequence[FunctionStatus]) -> AsyncIterator[bytes]:
    yield b"["
    for start in range(0, len(statuses), BATCH):
        items = [json.dumps(status_to_json(status)) for status in statuses[start : start + BATCH]]
        yield ((", " if start else "") + ", ".join(items)).encode()
        await asyncio.sleep(0)
    yield b"]"
