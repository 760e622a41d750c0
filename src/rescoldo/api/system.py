"""Routes about the platform itself, and routes that do not exist yet."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import JSONResponse, PlainTextResponse, Response

from rescoldo import __version__
from rescoldo.api.build import build_id
from rescoldo.api.errors import METHODS
from rescoldo.api.protocol import Overview
from rescoldo.model.errors import NotBuilt

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def system_router(overview: Overview, draining: Path) -> APIRouter:
    """Routes about the platform as a whole. The file `draining` exists while it drains: then the edge itself answers
    /healthz."""
    router = APIRouter()

    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> Response:
        # 200 although degraded: functions still take calls, and a load balancer shall not remove the machine for it.
        # Only users with the password see the problems, which name paths.
        return PlainTextResponse("OK; degraded, see `rescoldo status`" if overview.problems() else "OK")

    @router.get("/system/info", response_class=JSONResponse)
    async def info() -> Response:
        sha = await asyncio.to_thread(build_id)
        version = {"release": __version__, "sha": sha, "commit_message": f"rescoldo {__version__}"}
        provider = {"provider": "rescoldo", "orchestration": "processes", "version": version}
        return JSONResponse({"provider": provider, "version": version, "arch": overview.architecture})

    @router.get("/system/status", response_class=JSONResponse)
    async def status() -> Response:
        state = {"state": "draining"} if draining.exists() else {}
        return JSONResponse({**state, **await overview.report()})

    @router.get("/metrics", response_class=PlainTextResponse)
    @router.get("/-/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(await overview.metrics(), media_type=PROMETHEUS)

    return router


def not_built_router() -> APIRouter:
    """Routes of the contract that answer 501: a 404 would look like a missing function."""
    router = APIRouter(include_in_schema=False)

    @router.api_route("/async-function/{path:path}", methods=list(METHODS))
    async def asynchronous(path: str) -> Response:
        raise NotBuilt("asynchronous calls do not exist yet in rescoldo: call /function/ instead")

    return router
