"""/system/scale-function, pause and resume: set a function's number of instances, or refuse its calls. On a worker of
a cluster, also keep: control's request, every 10 s, to keep a function's minimum awake."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from rescoldo.api.bodies import Reference, ScaleFunction, read_body, takes
from rescoldo.api.protocol import Pauses, Scaling, Upkeep
from rescoldo.api.references import InQuery, reference, same_function


def scaling_router(scaling: Scaling, pauses: Pauses) -> APIRouter:
    """Routes that scale, pause and resume functions."""
    router = APIRouter()

    @router.post("/system/function/{name}/pause", status_code=202, openapi_extra=takes(Reference, required=False))
    async def pause(request: Request, name: str, namespace: InQuery) -> Response:
        body = await read_body(request, Reference, optional=True)
        await pauses.pause(reference(name, namespace, body.namespace))
        return Response(status_code=202)

    @router.post("/system/function/{name}/resume", status_code=202, openapi_extra=takes(Reference, required=False))
    async def resume(request: Request, name: str, namespace: InQuery) -> Response:
        body = await read_body(request, Reference, optional=True)
        await pauses.resume(reference(name, namespace, body.namespace))
        return Response(status_code=202)

    @router.post("/system/scale-function/{name}", status_code=202, openapi_extra=takes(ScaleFunction))
    async def scale(request: Request, name: str, namespace: InQuery) -> Response:
        body = await read_body(request, ScaleFunction)
        await scaling.scale(same_function(name, body.service_name, namespace, body.namespace), body.replicas)
        return Response(status_code=202)

    return router


def upkeep_router(upkeep: Upkeep) -> APIRouter:
    """The internal route of a worker, which control alone calls."""
    router = APIRouter(include_in_schema=False)

    @router.post("/system/function/{name}/keep")
    async def keep(request: Request, name: str, namespace: InQuery) -> Response:
        body = await read_body(request, Reference, optional=True)
        await upkeep.keep(reference(name, namespace, body.namespace))
        return Response(status_code=204)

    return router
