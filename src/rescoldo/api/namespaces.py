"""/system/namespaces and /system/namespace."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rescoldo.api.bodies import NamespaceBody, read_body, takes
from rescoldo.api.protocol import Namespaces
from rescoldo.model.errors import InvalidInput
from rescoldo.store.protocol import Namespace


def namespaces_router(namespaces: Namespaces) -> APIRouter:
    """Routes that create, list, change and remove namespaces."""
    router = APIRouter()

    @router.get("/system/namespaces", responses={200: {"model": list[str]}})
    async def list_namespaces() -> Response:
        return JSONResponse(list(namespaces.names()))

    _add_by_body(router, namespaces)
    _add_by_path(router, namespaces)
    return router


def _add_by_body(router: APIRouter, namespaces: Namespaces) -> None:
    """Routes with the name in the body alone. go-sdk, and so faas-cli, uses the POST; PUT and DELETE complete it."""

    @router.post("/system/namespace/", status_code=201, openapi_extra=takes(NamespaceBody))
    async def create_by_body(request: Request) -> Response:
        body = await read_body(request, NamespaceBody)
        await namespaces.save(_named(body, body.name), must_exist=False)
        return Response(status_code=201)

    @router.put("/system/namespace/", status_code=202, openapi_extra=takes(NamespaceBody))
    async def update_by_body(request: Request) -> Response:
        body = await read_body(request, NamespaceBody)
        await namespaces.save(_named(body, body.name), must_exist=True)
        return Response(status_code=202)

    @router.delete("/system/namespace/", status_code=202, openapi_extra=takes(NamespaceBody))
    async def remove_by_body(request: Request) -> Response:
        body = await read_body(request, NamespaceBody)
        await namespaces.delete(_named(body, body.name).name)
        return Response(status_code=202)


def _add_by_path(router: APIRouter, namespaces: Namespaces) -> None:
    @router.post("/system/namespace/{name}", status_code=201, openapi_extra=takes(NamespaceBody, required=False))
    async def create(request: Request, name: str) -> Response:
        body = await read_body(request, NamespaceBody, optional=True)
        await namespaces.save(_named(body, name), must_exist=False)
        return Response(status_code=201)

    @router.put("/system/namespace/{name}", status_code=202, openapi_extra=takes(NamespaceBody))
    async def update(request: Request, name: str) -> Response:
        body = await read_body(request, NamespaceBody)
        await namespaces.save(_named(body, name), must_exist=True)
        return Response(status_code=202)

    @router.get("/system/namespace/{name}", responses={200: {"model": NamespaceBody}})
    async def read(name: str) -> Response:
        found = namespaces.get(name)
        return JSONResponse({"name": found.name, "labels": dict(found.labels), "annotations": dict(found.annotations)})

    @router.delete("/system/namespace/{name}", status_code=202, openapi_extra=takes(NamespaceBody, required=False))
    async def remove(request: Request, name: str) -> Response:
        body = await read_body(request, NamespaceBody, optional=True)  # faas-cli sends a body
        await namespaces.delete(_named(body, name).name)
        return Response(status_code=202)


def _named(body: NamespaceBody, name: str) -> Namespace:
    if not name:
        raise InvalidInput("the request body is not valid: name: a namespace needs a name")
    if body.name not in ("", name):
        raise InvalidInput(f"the path names namespace {name[:80]!r} and the body {body.name[:80]!r}")
    return Namespace(name, body.labels, body.annotations)
