"""The gateway's HTTP API, compatible with OpenFaaS (contracts/openfaas.md, faas-cli.md).

It never sees a call to a function: those go from the edge to the instance.
"""

from __future__ import annotations

import asyncio

from fastapi import FastAPI

from rescoldo import __version__
from rescoldo.api.alerts import alerts_router
from rescoldo.api.auth import BasicAuth
from rescoldo.api.bundles import bundles_router
from rescoldo.api.credentials import Credentials
from rescoldo.api.errors import install_error_handlers
from rescoldo.api.functions import functions_router
from rescoldo.api.logs import logs_router
from rescoldo.api.namespaces import namespaces_router
from rescoldo.api.page import page_router
from rescoldo.api.secrets import secrets_router
from rescoldo.api.system import not_built_router, system_router
from rescoldo.control.platform import Platform
from rescoldo.model.settings import Settings


def create_app(platform: Platform, settings: Settings, credentials: Credentials | None) -> FastAPI:
    """Make the API of `platform`; without `credentials` it asks for none, whatever a client sends."""
    app = FastAPI(
        title="rescoldo",
        version=__version__,
        openapi_url="/system/openapi.json",
        docs_url=None,  # they load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,  # a redirect would name the edge's inner host
    )
    app.state.stop = asyncio.Event()  # followed logs end when it is set; `serve` puts its own here
    install_error_handlers(app)
    app.include_router(functions_router(platform))
    app.include_router(namespaces_router(platform))
    app.include_router(secrets_router(platform))
    app.include_router(alerts_router(platform))
    app.include_router(page_router(platform))
    app.include_router(bundles_router(platform, settings.max_system_body))
    app.include_router(logs_router(platform))
    app.include_router(system_router(platform))
    app.include_router(not_built_router())
    if credentials is not None:
        app.add_middleware(BasicAuth, credentials=credentials)
    return app
