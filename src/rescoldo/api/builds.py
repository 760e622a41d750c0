"""/build and /publickey: the remote builder that `faas-cli up --remote-builder GATEWAY` uses.

Sources: https://docs.openfaas.com/openfaas-pro/builder, and requests of faas-cli 0.18.12 as observed. The client sends
no login: its signature of the body authenticates it. Of a status other than 200 it shows only the number; so a failed
build answers 200, with the failure in the body.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from rescoldo.api.bundles import body_chunks, check_length
from rescoldo.api.protocol import Builds
from rescoldo.control.deploy.builds import MAX_UPLOAD, BuildStep
from rescoldo.model.access import BUILD_PATH
from rescoldo.model.errors import NotSigned
from rescoldo.model.names import DEFAULT_NAMESPACE

SIGNATURE_HEADER = "x-build-signature"
NDJSON = "application/x-ndjson"
KEY_BYTES = 32  # of Curve25519
_SIGNATURE = re.compile(r"sha256=([0-9a-fA-F]{64})")
_UPLOAD = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_HEADER = {"name": "X-Build-Signature", "in": "header", "required": True, "schema": {"type": "string"}}


def builds_router(builds: Builds, payload_secret: bytes, max_upload: int) -> APIRouter:
    """Routes of the remote builder; `max_upload` is in bytes."""
    router = APIRouter()
    # Clients encrypt build secrets with this key. Builds here use no secrets, so the private key is not needed, and
    # nobody has it: any 32 bytes are a public key of Curve25519 (RFC 7748, 5).
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()

    @router.get("/publickey", response_class=JSONResponse)
    async def public_key() -> Response:
        return JSONResponse({"key_id": key[:8], "algorithm": "nacl/box", "public_key": key})

    extra = {"requestBody": {"content": _UPLOAD}, "parameters": [_HEADER]}

    @router.post(BUILD_PATH, openapi_extra=extra, responses={200: {"content": {NDJSON: {"schema": {}}}}})
    async def build(request: Request) -> Response:
        """Build the archive that faas-cli sends and keep the bundle under its image name.

        On a cluster the build runs in a namespace of functions: the one that the query's `namespace` names, which
        clients keep from the builder's URL.
        """
        signature = read_signature(request.headers.get(SIGNATURE_HEADER, ""))
        check_length(request, min(max_upload, MAX_UPLOAD))
        namespace = request.query_params.get("namespace", DEFAULT_NAMESPACE)
        steps = await builds.build(signed(body_chunks(request), payload_secret, signature), namespace)
        if NDJSON in request.headers.get("accept", ""):
            return StreamingResponse(_lines(steps), media_type=NDJSON, headers={"X-Accel-Buffering": "no"})
        return StreamingResponse(_whole(steps), media_type="application/json")

    return router


def read_signature(header: str) -> bytes:
    """The digest in the header X-Build-Signature. Raises NotSigned."""
    found = _SIGNATURE.fullmatch(header.strip())
    if found is None:
        raise NotSigned("X-Build-Signature: send sha256= and the HMAC of the body with the payload secret, in hex")
    return bytes.fromhex(found[1])


async def signed(body: AsyncIterator[bytes], secret: bytes, signature: bytes) -> AsyncIterator[bytes]:
    """Pass `body` on; at its end raise NotSigned when `signature` is not its HMAC-SHA256."""
    digest = hmac.new(secret, digestmod=hashlib.sha256)
    async for chunk in body:
        digest.update(chunk)
        yield chunk
    if not hmac.compare_digest(digest.digest(), signature):
        raise NotSigned("X-Build-Signature does not match: sign the body with the platform's payload secret")


async def _lines(steps: AsyncGenerator[BuildStep, None]) -> AsyncIterator[bytes]:
    async with aclosing(steps):  # ends the build at once when its client leaves
        async for step in steps:
            yield _to_json(_body(step, [step.line] if step.line else []))


async def _whole(steps: AsyncGenerator[BuildStep, None]) -> AsyncIterator[bytes]:
    """The whole build as one object, for a client that does not follow it."""
    log = []
    async with aclosing(steps):
        async for step in steps:
            if step.line:
                log.append(step.line)
            last = step
    yield _to_json(_body(last, log))


def _body(step: BuildStep, log: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"log": log, "image": step.image, "status": step.status}
    return found | {"error": step.error} if step.error else found


def _to_json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body).encode() + b"\n"
