"""POST, PUT and DELETE /system/functions: deploy, update and remove functions."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from rescoldo.api.accepted import accepted
from rescoldo.api.bodies import DeleteFunction, FunctionDeployment, read_body, takes
from rescoldo.api.protocol import Deployments, Removals
from rescoldo.api.references import InQuery, reference
from rescoldo.model.errors import ROLLOUT_HEADER
from rescoldo.model.values import choice

LONGEST_WAIT = 600.0  # seconds that a deployment may wait for a start


def deployments_router(deployments: Deployments, removals: Removals) -> APIRouter:
    """Routes that deploy and remove functions."""
    router = APIRouter()

    @router.post("/system/functions", status_code=202, openapi_extra=takes(FunctionDeployment))
    async def deploy(request: Request, namespace: InQuery, rollout: str = "") -> Response:
        return await take(request, namespace, rollout, must_exist=False)

    @router.put("/system/functions", status_code=202, openapi_extra=takes(FunctionDeployment))
    async def update(request: Request, namespace: InQuery, rollout: str = "") -> Response:
        return await take(request, namespace, rollout, must_exist=True)

    async def take(request: Request, namespace: str, rollout: str, *, must_exist: bool) -> Response:
        """Deploy or update. Without a started revision to protect, the new one starts after the response, unless the
        client prefers to wait."""
        body = await read_body(request, FunctionDeployment)
        start = choice({"rollout": rollout}, "rollout", "checked", "immediate") == "checked"
        patience = patience_of(request.headers.getlist("prefer"))
        spec = body.to_spec(namespace)
        over = await deployments.deploy(spec, must_exist=must_exist, start=start, patience=patience)
        applied = {"Preference-Applied": "wait"} if patience else {}
        return accepted(deployments.notes(spec), applied if over else {ROLLOUT_HEADER: "starting"})

    @router.delete("/system/functions", status_code=202, openapi_extra=takes(DeleteFunction))
    async def remove(request: Request, namespace: InQuery) -> Response:
        body = await read_body(request, DeleteFunction)
        await removals.remove(reference(body.function_name, namespace, body.namespace))
        return Response(status_code=202)

    return router


def patience_of(prefer: list[str]) -> float:
    """Seconds that a client prefers to wait for the result: `Prefer: wait=30` (RFC 7240), at most LONGEST_WAIT; 0
    without it. Invalid values are ignored, as the RFC says of all preferences."""
    for header in prefer:
        for preference in header.split(","):
            name, _, value = preference.partition(";")[0].strip().partition("=")
            value = value.strip().strip('"')
            if name.strip().lower() == "wait" and value.isascii() and value.isdigit() and len(value) < 10:
                return min(float(value), LONGEST_WAIT)
    return 0.0
