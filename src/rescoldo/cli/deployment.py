"""Uploads bundles and deploys functions with the same requests as faas-cli 0.18.12."""

from __future__ import annotations

import hashlib
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rescoldo.bundle.archive import read_text
from rescoldo.bundle.deps import ARCHIVE
from rescoldo.cli.gateway import Gateway, Response
from rescoldo.cli.output import human_size, upload_bar
from rescoldo.model.errors import ROLLOUT_HEADER, NotFound, RescoldoError
from rescoldo.model.function import FunctionSpec, spec_to_json
from rescoldo.model.names import DEFAULT_NAMESPACE
from rescoldo.policy.notes import PREFIX

_CHUNK = 256 * 1024
PLACE = "/system/functions"
PATIENCE = 115  # seconds to wait for a first start: the longest ready timeout, below a gateway's own time limit
_LAYERS = threading.Lock()  # parallel deployments may share a layer: upload it once


def upload(gateway: Gateway, image: str, path: Path, say: Callable[[str], None]) -> str:
    """Make `image` name the bundle at `path` on the gateway; upload the bundle only if the gateway does not have it.

    Returns the bundle's digest. Raises RescoldoError.
    """
    digest = digest_of(path)
    try:
        gateway.system("POST", "/system/bundles", params={"image": image, "digest": digest})
        say(f"{image} is already uploaded ({digest[:12]})")
        return digest
    except NotFound:
        pass
    if layer := _layer_of(path):
        with _LAYERS:
            _upload_layer(gateway, layer, path.with_name(ARCHIVE), say)
    size = _send(gateway, "/system/bundles", {"image": image}, path, digest, image)
    say(f"uploaded {image}, {human_size(size)}")
    return digest


def _layer_of(path: Path) -> str:
    """Return the digest of the layer that the bundle at `path` needs; empty if the bundle is complete."""
    try:
        return str(json.loads(read_text(path, "manifest.json")).get("layer", ""))
    except (OSError, KeyError, ValueError, AttributeError, tarfile.TarError) as error:
        raise RescoldoError(f"{path} is not a bundle: {error}; run `rescoldo build` again") from error


def _upload_layer(gateway: Gateway, digest: str, path: Path, say: Callable[[str], None]) -> None:
    """Upload the layer at `path` unless the gateway has it. Raises RescoldoError."""
    try:
        gateway.system("GET", f"/system/layers/{digest}")
    except NotFound:
        if not path.is_file():
            raise RescoldoError(f"{path}, the requirements of the bundle beside it, is missing; run `rescoldo build`") \
                from None
        size = _send(gateway, "/system/layers", {}, path, digest, "its requirements")
        say(f"uploaded its requirements, {human_size(size)}")


def has_image(gateway: Gateway, image: str) -> bool:
    """Return whether `gateway` can run `image`. A gateway without bundles pulls images, so the answer is yes."""
    try:
        return bool(gateway.system("GET", "/system/bundles", params={"image": image}).json())
    except NotFound:
        return True


def digest_of(path: Path) -> str:
    """Return the SHA-256 digest that names the bundle at `path`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _send(gateway: Gateway, route: str, params: dict[str, str], path: Path, digest: str, what: str) -> int:
    """Upload the archive at `path` and compare the gateway's digest; return the archive's size in bytes."""
    size = path.stat().st_size
    headers = {
        "Content-Type": "application/gzip",
        "Content-Length": str(size),
        "X-Rescoldo-Digest": digest,
    }
    try:
        with upload_bar(f"Uploading {what}", size) as advance:
            body = _chunks(path, advance)
            answer = gateway.system("POST", route, params=params, content=body, headers=headers).json()
    except NotFound as error:
        kind = route.rpartition("/")[2]
        raise RescoldoError(f"{gateway.url} takes no {kind}: it is not a rescoldo gateway, or an older one") from error
    if answer.get("digest") != digest:
        raise RescoldoError(f"{what}: the gateway stored something else ({answer.get('digest')!r})")
    return size


def _chunks(path: Path, advance: Callable[[int], None]) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
            advance(len(chunk))


@dataclass(frozen=True, slots=True)
class Accepted:
    """A gateway's response to a deployment that it accepted."""

    notes: tuple[str, ...]  # settings without effect there; empty if the gateway does not report them
    starting: bool  # PATIENCE is over and the first start still runs

    @classmethod
    def read(cls, answer: Response, *, waited: bool) -> Accepted:
        lines = [line for line in answer.text.splitlines() if line.startswith(PREFIX)]
        starting = waited and answer.headers.get(ROLLOUT_HEADER) == "starting"
        return cls(tuple(line.removeprefix(PREFIX) for line in lines), starting)


def deploy(gateway: Gateway, spec: FunctionSpec, *, update: bool, replace: bool, start: bool = True) -> Accepted:
    """Deploy `spec`: PUT, then POST if the function does not exist. Without `update` only POST; with `replace` the
    existing function is removed first. Waits up to PATIENCE seconds for an instance to start, unless `start` is
    off.

    Raises RolloutFailed if it does not start, NotStarted if no other revision serves either, or another
    RescoldoError.
    """
    body = deployment(spec)
    # other gateways ignore both
    params = {} if start else {"rollout": "immediate"}
    headers = {"Prefer": f"wait={PATIENCE}"} if start else {}
    if replace:
        remove(gateway, spec.name, spec.namespace, missing_ok=True)
    if update and not replace:
        accept = (200, 201, 202, 404)
        answer = gateway.system("PUT", PLACE, params=params, json=body, headers=headers, accept=accept)
        if answer.status_code != 404:
            return Accepted.read(answer, waited=start)
    answer = gateway.system("POST", PLACE, params=params, json=body, headers=headers)
    return Accepted.read(answer, waited=start)


def remove(gateway: Gateway, name: str, namespace: str, *, missing_ok: bool = False) -> None:
    """Remove a function. Raises NotFound unless `missing_ok`."""
    body = {"functionName": name} | ({"namespace": namespace} if _is_named(namespace) else {})
    accept = (200, 201, 202, 404) if missing_ok else (200, 201, 202)
    gateway.system("DELETE", PLACE, json=body, accept=accept)


def deployment(spec: FunctionSpec) -> dict[str, Any]:
    """Return the FunctionDeployment object as faas-cli sends it: without empty values and without the default
    namespace."""
    full = spec_to_json(spec)
    if not _is_named(spec.namespace):
        del full["namespace"]
    always = ("service", "image", "readOnlyRootFilesystem")
    return {key: value for key, value in full.items() if value or key in always}


def function_url(gateway: Gateway, spec: FunctionSpec) -> str:
    """Return the URL of a deployed function."""
    suffix = f".{spec.namespace}" if _is_named(spec.namespace) else ""
    return f"{gateway.url}/function/{spec.name}{suffix}"


def _is_named(namespace: str) -> bool:
    return namespace not in ("", DEFAULT_NAMESPACE)
