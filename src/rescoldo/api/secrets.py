"""/system/secrets: values go in and never come out."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rescoldo.api.accepted import accepted
from rescoldo.api.bodies import MAX_SECRET_BODY, SecretBody, SecretReference, read_body, takes
from rescoldo.api.protocol import Secrets
from rescoldo.api.references import InQuery, namespace_of


def secrets_router(secrets: Secrets) -> APIRouter:
    """Routes that create, list, change and remove functions' secrets."""
    router = APIRouter()

    @router.get("/system/secrets", responses={200: {"model": list[SecretReference]}})
    async def list_secrets(namespace: InQuery) -> Response:
        chosen = namespace_of(namespace)
        return JSONResponse([{"name": name, "namespace": chosen} for name in await secrets.secrets(chosen)])

    @router.post("/system/secrets", status_code=202, openapi_extra=takes(SecretBody))
    async def create(request: Request, namespace: InQuery) -> Response:
        return await save(request, namespace, must_exist=False)

    @router.put("/system/secrets", status_code=202, openapi_extra=takes(SecretBody))
    async def update(request: Request, namespace: InQuery) -> Response:
        return await save(request, namespace, must_exist=True)

    async def save(request: Request, namespace: str, *, must_exist: bool) -> Response:
        body = await read_body(request, SecretBody, limit=MAX_SECRET_BODY)
        place = namespace_of(namespace, body.namespace)
        return accepted(await secrets.save_secret(place, body.name, body.content(), must_exist=must_exist))

    # faas-cli accepts 200 and 202, not 204
    @router.delete("/system/secrets", status_code=202, openapi_extra=takes(SecretReference))
    async def remove(request: Request, namespace: InQuery) -> Response:
        body = await read_body(request, SecretReference)
        await secrets.delete_secret(namespace_of(namespace, body.namespace), body.name)
        return Response(status_code=202)

    return router
