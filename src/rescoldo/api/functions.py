"""/system/functions, /system/function and /system/scale-function."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from rescoldo.api.bodies import (
    DeleteFunction,
    FunctionDeployment,
    FunctionStatusBody,
    Reference,
    ScaleFunction,
    read_body,
    status_to_json,
    takes,
)
from rescoldo.api.references import InQuery, namespace_of, reference, same_function
from rescoldo.control.platform import Platform
from rescoldo.model.errors import ROLLOUT_HEADER, NotFound
from rescoldo.model.function import FunctionStatus
from rescoldo.model.text import one_line
from rescoldo.model.values import choice
from rescoldo.policy.notes import PREFIX

YES = ("1", "true")
LONGEST_WAIT = 600.0  # seconds that a deployment may wait for a start
BATCH = 100  # functions turned into JSON (about 1 ms) before the event loop has its turn: wakes go first


def functions_router(platform: Platform) -> APIRouter:
    """Routes that deploy, list, remove and scale functions."""
    router = APIRouter()

    @router.get("/system/functions", responses={200: {"model": list[FunctionStatusBody]}})
    async def list_functions(namespace: InQuery) -> Response:
        # A name that is mistyped would look like an empty namespace: 404 says so
        chosen = namespace_of(namespace)
        if chosen not in await platform.namespaces():
            raise NotFound(f"namespace {chosen[:80]!r} does not exist; see `rescoldo namespace list`")
        statuses = await platform.functions(chosen)
        return StreamingResponse(_json_array(statuses), media_type="application/json")

    @router.post("/system/functions", status_code=202, openapi_extra=takes(FunctionDeployment))
    async def deploy(request: Request, namespace: InQuery, rollout: str = "") -> Response:
        return await take(request, namespace, rollout, must_exist=False)

    @router.put("/system/functions", status_code=202, openapi_extra=takes(FunctionDeployment))
    async def update(request: Request, namespace: InQuery, rollout: str = "") -> Response:
        return await take(request, namespace, rollout, must_exist=True)

    async def take(request: Request, namespace: str, rollout: str, *, must_exist: bool) -> Response:
        """What has nothing to protect is started behind this answer, unless the client would rather wait for it."""
        body = await read_body(request, FunctionDeployment)
        start = choice({"rollout": rollout}, "rollout", "checked", "immediate") == "checked"
        patience = patience_of(request.headers.getlist("prefer"))
        spec = body.to_spec(namespace)
        over = await platform.deploy(spec, must_exist=must_exist, start=start, patience=patience)
        applied = {"Preference-Applied": "wait"} if patience else {}
        return _accepted(platform.notes(spec), applied if over else {ROLLOUT_HEADER: "starting"})

    @router.delete("/system/functions", status_code=202, openapi_extra=takes(DeleteFunction))
    async def remove(request: Request, namespace: InQuery) -> Response:
        body = await read_body(request, DeleteFunction)
        await platform.remove(reference(body.function_name, namespace, body.namespace))
        return Response(status_code=202)

    @router.get("/system/function/{name}", responses={200: {"model": FunctionStatusBody}, 404: {}})
    async def describe(name: str, namespace: InQuery, usage: str = "", why: str = "") -> Response:
        try:
            status = await platform.function(reference(name, namespace), usage=usage in YES, why=why in YES)
        except NotFound:
            return Response(status_code=404)  # the contract's is empty; faas-cli has words of its own
        return Response(json.dumps(status_to_json(status)), media_type="application/json")

    @router.post("/system/function/{name}/pause", status_code=202, openapi_extra=takes(Reference, required=False))
    async def pause(request: Request, name: str, namespace: InQuery) -> Response:
        body = await read_body(request, Reference, optional=True)
        await platform.pause(reference(name, namespace, body.namespace))
        return Response(status_code=202)

    @router.post("/system/function/{name}/resume", status_code=202, openapi_extra=takes(Reference, required=False))
    async def resume(request: Request, name: str, namespace: InQuery) -> Response:
        body = await read_body(request, Reference, optional=True)
        await platform.resume(reference(name, namespace, body.namespace))
        return Response(status_code=202)

    @router.post("/system/scale-function/{name}", status_code=202, openapi_extra=takes(ScaleFunction))
    async def scale(request: Request, name: str, namespace: InQuery) -> Response:
        body = await read_body(request, ScaleFunction)
        await platform.scale(same_function(name, body.service_name, namespace, body.namespace), body.replicas)
        return Response(status_code=202)

    return router


def _accepted(notes: Sequence[str], headers: Mapping[str, str]) -> Response:
    """The contract's empty body, unless there is something to say: OpenFaaS's clients look at the status alone."""
    text = "".join(f"{PREFIX}{one_line(note)}\n" for note in notes)
    return PlainTextResponse(text, 202, headers) if text else Response(status_code=202, headers=headers)


def patience_of(prefer: list[str]) -> float:
    """Seconds that a client would rather wait than be answered at once: `Prefer: wait=30` (RFC 7240); 0 without it.
    What is no such number is ignored, as all that a client merely prefers."""
    for header in prefer:
        for preference in header.split(","):
            name, _, value = preference.partition(";")[0].strip().partition("=")
            value = value.strip().strip('"')
            if name.strip().lower() == "wait" and value.isascii() and value.isdigit() and len(value) < 10:
                return min(float(value), LONGEST_WAIT)
    return 0.0


async def _json_array(statuses: Sequence[FunctionStatus]) -> AsyncIterator[bytes]:
    yield b"["
    for start in range(0, len(statuses), BATCH):
        items = [json.dumps(status_to_json(status)) for status in statuses[start : start + BATCH]]
        yield ((", " if start else "") + ", ".join(items)).encode()
        await asyncio.sleep(0)
    yield b"]"
