"""The gateway's HTTP API, compatible with OpenFaaS's (https://docs.openfaas.com/reference/rest-api).

Calls of functions never reach the API: they go from the edge to the instance.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import ASGIApp

from rescoldo import __version__
from rescoldo.api.alerts import alerts_router
from rescoldo.api.auth import BasicAuth
from rescoldo.api.builds import builds_router
from rescoldo.api.bundles import bundles_router
from rescoldo.api.credentials import Credentials
from rescoldo.api.deployments import deployments_router
from rescoldo.api.errors import install_error_handlers
from rescoldo.api.functions import functions_router
from rescoldo.api.logs import logs_router
from rescoldo.api.namespaces import namespaces_router
from rescoldo.api.nopages import NoPages
from rescoldo.api.page import page_router
from rescoldo.api.protocol import Platform
from rescoldo.api.revisions import revisions_router
from rescoldo.api.scaling import scaling_router, upkeep_router
from rescoldo.api.secrets import secrets_router
from rescoldo.api.system import not_built_router, system_router
from rescoldo.model.settings import Settings

First = Callable[[ASGIApp], ASGIApp]  # makes what handles requests before the app that it gets

_TEXT: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request was refused; the text says why.", "content": _TEXT},
    "5XX": {"description": "The request failed; the text says why.", "content": _TEXT},
}


def create_app(
    platform: Platform,
    settings: Settings,
    credentials: Credentials | None,
    payload_secret: bytes,
    first: Sequence[First] = (),
) -> FastAPI:
    """Make the API of `platform`. Without `credentials` it accepts every request, whatever login a client sends.
    `payload_secret` is the key of builds' signatures. `first`: what handles a request before the routes do, behind the
    login (api/forwarding.py, api/lookup.py)."""
    app = FastAPI(
        title="rescoldo",
        version=__version__,
        openapi_url="/system/openapi.json",
        # for every route in the OpenAPI document: errors are text; success has no body unless the route declares one
        responses=REFUSALS,
        default_response_class=Response,
        docs_url=None,  # the pages load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,  # a redirect would name the edge's inner host
    )
    app.state.stop = asyncio.Event()  # ends followed logs; `serve` replaces it with its own
    install_error_handlers(app)
    _include_routers(app, platform, settings, payload_secret)
    for one in first:
        app.add_middleware(one)
    if credentials is not None:
        app.add_middleware(BasicAuth, credentials=credentials)
    app.add_middleware(NoPages)  # the last one added is the outermost: it answers before BasicAuth
    return app


def _include_routers(app: FastAPI, platform: Platform, settings: Settings, payload_secret: bytes) -> None:
    app.include_router(functions_router(platform.statuses, platform.namespaces))
    app.include_router(deployments_router(platform.deployments, platform.removals))
    app.include_router(scaling_router(platform.scaling, platform.pauses))
    if platform.upkeep is not None:
        app.include_router(upkeep_router(platform.upkeep))
    app.include_router(revisions_router(platform.revisions, platform.deployments, platform.traffic))
    app.include_router(namespaces_router(platform.namespaces))
    app.include_router(secrets_router(platform.secrets))
    app.include_router(alerts_router(platform.statuses, platform.alerted or platform.scaling))
    app.include_router(page_router(platform.namespaces, platform.statuses))
    app.include_router(bundles_router(platform.images, settings.max_system_body))
    app.include_router(builds_router(platform.builds, payload_secret, settings.max_system_body))
    app.include_router(logs_router(platform.logs))
    app.include_router(system_router(platform.overview, settings.draining_file))
    app.include_router(not_built_router())
