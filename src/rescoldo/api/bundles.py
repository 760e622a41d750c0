"""/system/bundles and /system/layers: uploads by `rescoldo deploy` and `rescoldo up`. Not OpenFaaS routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rescoldo.api.bodies import BundleBody, LayerBody, rfc3339
from rescoldo.api.protocol import Images
from rescoldo.model.errors import InvalidInput, NotFound, TooLarge
from rescoldo.store.protocol import Bundle

DIGEST_HEADER = "x-rescoldo-digest"
CHUNK = 64 * 2**10  # bytes; the smallest piece of an upload that is passed on
UPLOAD = {"requestBody": {"content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}}}}


def bundles_router(images: Images, max_upload: int) -> APIRouter:
    """Routes that upload, tag and list bundles, and upload layers of requirements; `max_upload` is in bytes."""
    router = APIRouter()

    @router.get("/system/bundles", responses={200: {"model": list[BundleBody]}})
    async def list_bundles(image: str = "") -> Response:
        return JSONResponse([_to_json(bundle) for bundle in images.named(image or None)])

    one: dict[int | str, dict[str, Any]] = {code: {"model": BundleBody} for code in (200, 201)}

    @router.post("/system/bundles", status_code=201, openapi_extra=UPLOAD, responses=one)
    async def add_bundle(request: Request, image: str, digest: str = "") -> Response:
        """Upload a bundle as `image` (201). With `digest` and no body: tag a stored bundle (200, 404)."""
        if not image:
            raise InvalidInput("query: image is missing: name the image that the upload becomes")
        expected = digest or request.headers.get(DIGEST_HEADER, "")
        if digest and _has_no_body(request):
            return JSONResponse(_to_json(await images.tag(image, digest)))
        check_length(request, max_upload)
        bundle = await images.add(image, body_chunks(request), expected or None)
        return JSONResponse(_to_json(bundle), 201)

    @router.get("/system/layers/{digest}", responses={200: {"model": LayerBody}})
    async def find_layer(digest: str) -> Response:
        """Whether a layer is stored (200, 404). A stored layer is kept for another day."""
        if not images.has_layer(digest):
            raise NotFound(f"no layer with digest {digest[:80]} is stored here; send it to POST /system/layers")
        return JSONResponse({"digest": digest})

    layer: dict[int | str, dict[str, Any]] = {201: {"model": LayerBody}}

    @router.post("/system/layers", status_code=201, openapi_extra=UPLOAD, responses=layer)
    async def add_layer(request: Request, digest: str = "") -> Response:
        """Upload a layer of requirements, before the bundles that name it."""
        check_length(request, max_upload)
        expected = digest or request.headers.get(DIGEST_HEADER, "")
        return JSONResponse({"digest": await images.add_layer(body_chunks(request), expected or None)}, 201)

    return router


def _has_no_body(request: Request) -> bool:
    headers = request.headers
    return "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"


def check_length(request: Request, max_upload: int) -> None:
    """Raise TooLarge when the announced length exceeds `max_upload` bytes, before the client sends it all. The storage
    counts the bytes that arrive."""
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > max_upload:
        raise TooLarge(f"the upload of {length} bytes is larger than the {max_upload} bytes allowed")


async def body_chunks(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces of at least CHUNK bytes, except the first and the last: a client may send single bytes, and
    each piece that is passed on costs time."""
    gathered, enough = bytearray(), 1
    async for chunk in request.stream():
        gathered += chunk
        if len(gathered) >= enough:
            yield bytes(gathered)
            gathered.clear()
            enough = CHUNK
    if gathered:
        yield bytes(gathered)


def _to_json(bundle: Bundle) -> dict[str, Any]:
    return {
        "image": bundle.image,
        "digest": bundle.digest,
        "size": bundle.size,
        "createdAt": rfc3339(bundle.created_at),
    }
