"""The routes of control that a build's pod uses: its certificate says which build that is.

Their bodies are bounded by the desk, not by `BoundedBodies`: bundles are larger than what workers tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from rescoldo.api.server import peer_uris
from rescoldo.cluster.build_desk import BuildDesk, Part
from rescoldo.link.protocol import BUILD_PATH

DeskOf = Callable[[Sequence[str]], BuildDesk]


def link_builds_router(desk_of: DeskOf) -> APIRouter:
    """`desk_of` gets the URIs in a client's certificate; it raises for any client that is no build's pod."""
    router = APIRouter(prefix=BUILD_PATH)

    @router.get("/archive")
    async def archive(request: Request) -> Response:
        return FileResponse(desk_of(peer_uris(request)).archive, media_type="application/octet-stream")

    @router.post("/messages")
    async def messages(request: Request) -> Response:
        """Lines of JSON, as the build writes them: the request lasts as long as the build does."""
        await desk_of(peer_uris(request)).listen(request.stream())
        return Response(status_code=204)

    @router.put("/{part}")
    async def receive(request: Request, part: Part) -> Response:
        await desk_of(peer_uris(request)).receive(part, request.stream())
        return Response(status_code=204)

    return router
