"""/ui/: a page without scripts that lists the deployed functions and their use."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from html import escape

from fastapi import APIRouter
from starlette.responses import RedirectResponse, Response, StreamingResponse

from rescoldo import __version__
from rescoldo.api.protocol import Namespaces, Statuses
from rescoldo.model.function import FunctionStatus

BATCH = 200  # rows to make before yielding to the event loop
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem .75rem; border-bottom: 1px solid #ddd }
.n { text-align: right }
"""
HEADERS = {
    # names and images are text of users: the page may run and fetch nothing
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def page_router(namespaces: Namespaces, statuses: Statuses) -> APIRouter:
    """The routes of the page, and redirects to it."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    @router.get("/ui")
    async def home() -> Response:
        return RedirectResponse("/ui/", 307)

    @router.get("/ui/")
    async def page() -> Response:
        found = [status for space in namespaces.names() for status in statuses.functions(space)]
        return StreamingResponse(_page(found), media_type="text/html; charset=utf-8", headers=HEADERS)

    return router


async def _page(functions: list[FunctionStatus]) -> AsyncIterator[str]:
    awake = sum(status.available > 0 for status in functions)
    yield (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>rescoldo</title><style>{STYLE}</style>'
        f"</head>\n<body><h1>rescoldo {escape(__version__)}</h1>\n<p>{len(functions)} functions, {awake} awake</p>\n"
        '<table><thead><tr><th>Function</th><th>Namespace</th><th>Image</th><th>State</th><th class="n">Replicas</th>'
        '<th class="n">Invocations</th></tr></thead>\n<tbody>\n'
    )
    for start in range(0, len(functions), BATCH):
        yield "".join(_row(status) for status in functions[start : start + BATCH])
        await asyncio.sleep(0)
    yield "</tbody></table></body></html>\n"


def _row(status: FunctionStatus) -> str:
    spec = status.function.spec
    return (
        f"<tr><td>{escape(spec.name)}</td><td>{escape(spec.namespace)}</td><td>{escape(spec.image)}</td>"
        f'<td title="{escape(status.reason)}">{escape(status.state)}</td>'
        f'<td class="n">{status.available}/{status.replicas}</td><td class="n">{status.invocations}</td></tr>\n'
    )
