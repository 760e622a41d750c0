"""Answers errors with plain text: faas-cli prints the body of an error as it is."""

from __future__ import annotations

import logging
import math
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Match

from rescoldo.model.errors import ROLLOUT_HEADER, Busy, NotStarted, RescoldoError, RolloutFailed
from rescoldo.model.text import one_line
from rescoldo.model.violations import describe

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

log = logging.getLogger(__name__)


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error of `app` with its message as text/plain."""

    @app.exception_handler(RescoldoError)
    async def ours(request: Request, error: RescoldoError) -> PlainTextResponse:
        headers = {}
        if isinstance(error, Busy):
            headers["Retry-After"] = str(math.ceil(error.retry_after))
        if isinstance(error, RolloutFailed):  # tells our CLI that another deployment may mend it
            headers[ROLLOUT_HEADER] = "failing" if isinstance(error, NotStarted) else "failed"
        if error.status >= 500 and not isinstance(error, Busy):
            log.warning("%s %s: %s", request.method, request.url.path, error.message)
        return PlainTextResponse(error.message, error.status, headers)

    @app.exception_handler(RequestValidationError)
    async def bad_query(request: Request, error: RequestValidationError) -> PlainTextResponse:
        return PlainTextResponse(describe(error.errors()), 400)

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> PlainTextResponse:
        text = f"{HTTPStatus(error.status_code).phrase}: {request.method} {one_line(request.url.path)}"
        headers = dict(error.headers or {})
        if error.status_code == 405:  # Starlette names the methods of only one of the path's routes
            headers["Allow"] = ", ".join(sorted(_methods(request)))
        return PlainTextResponse(text, error.status_code, headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> PlainTextResponse:
        # no client reads this; without it the disconnect would be logged as an error of ours
        return PlainTextResponse("the client closed the connection during the request", 400)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> PlainTextResponse:
        # Starlette raises the error again after this response, and uvicorn logs its traceback
        return PlainTextResponse("internal error: see the log of `rescoldo serve`", 500)


def _methods(request: Request) -> set[str]:
    """The methods that the request's path allows."""
    return {
        method
        for method in METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    }
