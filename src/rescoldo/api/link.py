"""The routes of control that workers use, each for the namespace of its certificate alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Literal

from fastapi import APIRouter, Body, FastAPI, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from rescoldo.api.bounds import BoundedBodies
from rescoldo.api.errors import install_error_handlers
from rescoldo.api.link_builds import DeskOf, link_builds_router
from rescoldo.api.server import peer_uris
from rescoldo.link.protocol import BUILD_PATH, Control, Unreachable
from rescoldo.link.wire import (
    decode_counts,
    decode_document,
    decode_grant_request,
    decode_report,
    encode_change,
    encode_delivery,
    encode_grant,
    encode_image,
    encode_secrets,
)
from rescoldo.model.errors import InvalidInput, NotFound
from rescoldo.model.function import MAX_SECRETS
from rescoldo.model.names import FunctionId, RouteKey

MOST_BODY = 16 * 2**20  # bytes: a function of 1 MiB with its revisions, or ten minutes of counts

ControlOf = Callable[[Request], Control]


def create_link(control_of: Callable[[Sequence[str]], Control], desk_of: DeskOf | None = None) -> FastAPI:
    """Make the link's application. `control_of` gets the URIs in a client's certificate, and returns the control of the
    namespace that this worker may see; it raises for any other client. `desk_of`: see api/link_builds.py."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    install_error_handlers(app)
    app.add_middleware(BoundedBodies, most=MOST_BODY, but=None if desk_of is None else BUILD_PATH)

    def of(request: Request) -> Control:
        return control_of(peer_uris(request))

    if desk_of is not None:
        app.include_router(link_builds_router(desk_of))
    app.include_router(_functions(of), prefix="/link")
    app.include_router(_supplies(of), prefix="/link")
    app.include_router(_told(of), prefix="/link")
    return app


def _functions(control_of: ControlOf) -> APIRouter:
    router = APIRouter()

    @router.get("/functions")
    async def versions(request: Request) -> Response:
        return JSONResponse(await control_of(request).versions())

    @router.get("/functions/{function}")
    async def deliver(request: Request, function: str) -> Response:
        found = await control_of(request).deliver(_id(function))
        if found is None:
            raise NotFound(f"function {function[:200]} is not deployed")
        return JSONResponse(encode_delivery(found))

    @router.put("/functions/{function}")
    async def put(request: Request, function: str, found: dict[str, Any] = Body()) -> Response:  # noqa: B008
        document = decode_document(found)
        if document.id != function:
            raise InvalidInput(f"the document is one of {document.id}, not of {function[:200]}")
        return JSONResponse({"version": await control_of(request).put(document)})

    @router.delete("/functions/{function}")
    async def delete(request: Request, function: str) -> Response:
        await control_of(request).delete(_id(function))
        return Response(status_code=204)

    @router.get("/changes")
    async def changes(request: Request) -> Response:
        return StreamingResponse(_lines(control_of(request)), media_type="application/x-ndjson")

    return router


def _supplies(control_of: ControlOf) -> APIRouter:
    router = APIRouter()

    @router.get("/images/{image:path}")
    async def image(request: Request, image: str) -> Response:
        found = await control_of(request).image(image)
        if found is None:
            raise NotFound(f"image {image[:200]} was not uploaded")
        return JSONResponse(encode_image(*found))

    @router.post("/secrets")
    async def secrets(request: Request, names: list[str] = Body()) -> Response:  # noqa: B008
        if len(names) > MAX_SECRETS:
            raise InvalidInput(f"{len(names)} secrets are asked for; {MAX_SECRETS} are allowed")
        return JSONResponse(encode_secrets(await control_of(request).secrets(names)))

    @router.get("/{kind}/{digest}")
    async def archive(request: Request, kind: Literal["bundles", "layers"], digest: str) -> Response:
        chunks = control_of(request).archive(kind, digest)
        try:
            first = await anext(chunks)  # before the answer begins: it may be missing
        except StopAsyncIteration:
            first = b""
        return StreamingResponse(_all(first, chunks), media_type="application/octet-stream")

    return router


def _told(control_of: ControlOf) -> APIRouter:
    """What workers tell."""
    router = APIRouter()

    @router.post("/counts")
    async def count(request: Request, found: dict[str, Any] = Body()) -> Response:  # noqa: B008
        await control_of(request).count(decode_counts(found))
        return Response(status_code=204)

    @router.post("/reports")
    async def report(request: Request, found: dict[str, Any] = Body()) -> Response:  # noqa: B008
        await control_of(request).report(decode_report(found))
        return Response(status_code=204)

    @router.post("/grants")
    async def grant(request: Request, found: dict[str, Any] = Body()) -> Response:  # noqa: B008
        function, sender, _ = decode_grant_request(found)
        return JSONResponse(encode_grant(await control_of(request).grant(function, sender)))

    @router.post("/grants/back")
    async def give_back(request: Request, found: dict[str, Any] = Body()) -> Response:  # noqa: B008
        await control_of(request).give_back(*decode_grant_request(found))
        return Response(status_code=204)

    return router


async def _lines(control: Control) -> AsyncIterator[bytes]:
    """The stream of changes, until control ends it: the worker then begins another."""
    try:
        async for change in control.changes():
            yield encode_change(change)
    except Unreachable:
        return


async def _all(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _id(text: str) -> FunctionId:
    return FunctionId(RouteKey(text))


