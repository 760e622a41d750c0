"""/system/function/NAME/revisions, rollback and traffic. Not OpenFaaS routes."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rescoldo.api.bodies import Body, Text, read_body, rfc3339, takes
from rescoldo.api.protocol import Deployments, Revisions
from rescoldo.api.protocol import Traffic as TrafficPort
from rescoldo.api.references import InQuery, reference
from rescoldo.model.function import spec_to_json
from rescoldo.model.revision import RevisionStatus


class RevisionBody(Body):
    """One revision of a function."""

    revision: int
    created_at: datetime
    image: str
    digest: str
    state: Literal["serving", "kept", "failed"]
    reason: str  # why it did not start; empty unless it failed
    current: bool
    traffic: int  # percent of the function's calls
    replicas: int  # instances that answer
    deployment: dict[str, Any]  # its spec, in the form of POST /system/functions


class Rollback(Body):
    """What POST rollback takes; without a revision the one before the current one is meant."""

    revision: int | None = Field(None, ge=1)
    namespace: Text = ""


class RollbackDone(Body):
    """What is current after a rollback."""

    revision: int


class Traffic(Body):
    """What PUT traffic takes: percent of the calls by revision, 100 together."""

    traffic: dict[int, int]
    namespace: Text = ""


def revisions_router(revisions: Revisions, deployments: Deployments, traffic: TrafficPort) -> APIRouter:
    """Routes that list revisions, roll back and split traffic."""
    router = APIRouter()

    @router.get("/system/function/{name}/revisions", responses={200: {"model": list[RevisionBody]}})
    async def list_revisions(name: str, namespace: InQuery) -> Response:
        found = await revisions.revisions(reference(name, namespace))
        return JSONResponse([_to_json(revision) for revision in found])

    @router.post(
        "/system/function/{name}/rollback",
        openapi_extra=takes(Rollback, required=False),
        responses={200: {"model": RollbackDone}},
    )
    async def roll_back(request: Request, name: str, namespace: InQuery) -> Response:
        body = await read_body(request, Rollback, optional=True)
        revision = await deployments.roll_back(reference(name, namespace, body.namespace), body.revision)
        return JSONResponse({"revision": revision})

    @router.put("/system/function/{name}/traffic", status_code=202, openapi_extra=takes(Traffic))
    async def split(request: Request, name: str, namespace: InQuery) -> Response:
        body = await read_body(request, Traffic)
        await traffic.split(reference(name, namespace, body.namespace), body.traffic)
        return Response(status_code=202)

    return router


def _to_json(status: RevisionStatus) -> dict[str, Any]:
    revision = status.revision
    return {
        "revision": revision.number,
        "createdAt": rfc3339(int(revision.created_at)),
        "image": revision.spec.image,
        "digest": revision.digest,
        "state": status.state,
        "reason": revision.failure,
        "current": status.current,
        "traffic": status.traffic,
        "replicas": status.replicas,
        "deployment": spec_to_json(revision.spec),
    }
