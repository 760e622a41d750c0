"""A cluster by lightkube: its configuration, credentials, paths and connection pool; reading is ours.

lightkube 1.0 reads an answer of any length, lets a silent watch hang for ever, opens an ended watch again at once and
without a pause, and hides the moment at which a watch is accepted. So `_Connection` takes its requests and sends them
through its HTTP client, but reads what comes back itself, with bounds. Kinds are lightkube's generic resources: plain
dictionaries go in and come out, and no model of a kind is filled.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
from lightkube.config.client_adapter import ConnectionParams
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError
from lightkube.core.generic_client import ALL_NS, BasicRequest, GenericAsyncClient
from lightkube.core.resource import ApiInfo, ResourceDef
from lightkube.generic_resource import GenericGlobalResource, GenericNamespacedResource
from lightkube.types import PatchType

from rescoldo.kube.errors import MAX_MESSAGE, Asked, ClusterUnavailable, Expired, error_of
from rescoldo.kube.protocol import (
    MANAGER,
    MAX_OBJECT,
    MAX_PAGE,
    PAGE,
    REQUEST_SECONDS,
    WATCH_GRACE,
    WATCH_SECONDS,
    Event,
    EventType,
    Object,
    Page,
    Resource,
)
from rescoldo.model.errors import InvalidInput, RescoldoError, TooLarge

VERBS = ["delete", "get", "global_list", "global_watch", "list", "patch", "post", "put", "watch"]
_EXEC = "client.authentication.k8s.io/"  # a program that a kubeconfig names, for a token
CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 10.0  # between two parts of an answer


def find_cluster(kubeconfig: Path | None = None, context: str = "", **settings: Any) -> LightkubeCluster:
    """Return the cluster of a kubeconfig, or with None of this pod, of $KUBECONFIG or of ~/.kube/config.

    `settings` are those of LightkubeCluster. Raises InvalidInput naming the file and what is missing in it. Connects to
    nothing.
    """
    try:
        found = KubeConfig.from_file(kubeconfig) if kubeconfig else KubeConfig.from_env()
        config = found.get(context or None)
    except Exception as error:  # lightkube and its YAML reader raise whatever they come across
        raise InvalidInput(f"kubeconfig {kubeconfig or '(in a pod, $KUBECONFIG, ~/.kube/config)'}: {error}") from error
    assert config is not None  # `get` returns None only where None was the default
    if config.user and config.user.exec and config.user.exec.apiVersion == _EXEC + "v1":
        config.user.exec.apiVersion = _EXEC + "v1beta1"  # lightkube refuses v1, whose answers have the same token
    return LightkubeCluster(config, **settings)


class LightkubeCluster:
    """A `Cluster` that is there. Use as a context manager, or `close` it.

    In a pod, the token is read again when the API server refuses it: kubelet replaces the file long before that.
    """

    def __init__(
        self,
        config: SingleConfig,
        *,
        page: int = PAGE,
        watch_seconds: int = WATCH_SECONDS,
        grace: float = WATCH_GRACE,
    ) -> None:
        self._connection = _Connection(config)
        self._page, self._watch_seconds, self._grace = page, watch_seconds, grace

    async def __aenter__(self) -> LightkubeCluster:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._connection.aclose()

    async def version(self) -> str:
        asked = Asked("get", Resource("", "", "", "/version", namespaced=False))
        data = await self._connection.read(BasicRequest("GET", "/version"), asked, MAX_OBJECT)
        with _understood(asked):
            return str(json.loads(data)["gitVersion"])

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        asked = Asked("get", resource, namespace, name)
        request = self._connection.prepare_request("get", _model(resource), name=name, namespace=namespace or None)
        return await self._object(request, asked)

    async def list(self, resource: Resource, namespace: str = "", labels: str = "") -> AsyncGenerator[Page]:
        asked, limit, rest = Asked("list", resource, namespace), self._page, ""
        while True:
            params = {"limit": str(limit), "continue": rest or None, "labelSelector": labels or None}
            request = self._connection.prepare_request(
                "list", _model(resource), namespace=_place(resource, namespace), params=params
            )
            try:
                data = await self._connection.read(request, asked, MAX_PAGE)
            except TooLarge:
                if limit == 1:
                    raise
                limit //= 2  # the rest of this list, too: its objects are large
                continue
            with _understood(asked):
                page, rest = _page(data, resource)
            yield page
            if not rest:
                return

    async def watch(
        self, resource: Resource, version: str, namespace: str = "", labels: str = ""
    ) -> AsyncGenerator[Event]:
        asked = Asked("watch", resource, namespace)
        params = {
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self._watch_seconds),
            "labelSelector": labels or None,
        }
        request = self._connection.prepare_request(
            "list", _model(resource), namespace=_place(resource, namespace), params=params, watch=True
        )
        silence = self._watch_seconds + self._grace
        request.timeout = httpx2.Timeout(CONNECT_SECONDS, read=silence)
        async with aclosing(self._connection.lines(request, asked)) as lines:
            async for line in lines:
                if not line:
                    yield Event(EventType.OPENED, {})
                    continue
                with _understood(asked):
                    event = _event(line, asked)
                yield event

    async def create(self, resource: Resource, obj: Mapping[str, Any], manager: str = MANAGER) -> Object:
        meta = obj["metadata"]
        asked = Asked("create", resource, meta.get("namespace") or "", meta.get("name") or "")
        request = self._connection.prepare_request(
            "post", None, _model(resource)(obj), namespace=asked.namespace or None, params=_writing(manager)
        )
        return await self._object(request, asked)

    async def apply(
        self,
        resource: Resource,
        obj: Mapping[str, Any],
        manager: str = MANAGER,
        *,
        force: bool = False,
        subresource: str = "",
    ) -> Object:
        whole = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        asked = Asked("patch", resource, obj["metadata"].get("namespace") or "", obj["metadata"]["name"], subresource)
        params = _writing(manager) | ({"force": "true"} if force else {})
        return await self._change(asked, whole, params, PatchType.APPLY)

    async def patch(
        self,
        resource: Resource,
        name: str,
        change: Mapping[str, Any],
        namespace: str = "",
        manager: str = MANAGER,
        *,
        subresource: str = "",
    ) -> Object:
        asked = Asked("patch", resource, namespace, name, subresource)
        return await self._change(asked, change, _writing(manager), PatchType.MERGE)

    async def delete(
        self, resource: Resource, name: str, namespace: str = "", *, uid: str = "", version: str = ""
    ) -> None:
        asked = Asked("delete", resource, namespace, name)
        request = self._connection.prepare_request("delete", _model(resource), name=name, namespace=namespace or None)
        conditions = {key: value for key, value in (("uid", uid), ("resourceVersion", version)) if value}
        request.data = {"propagationPolicy": "Background", "preconditions": conditions}
        await self._connection.read(request, asked, MAX_OBJECT)

    async def _change(self, asked: Asked, obj: Mapping[str, Any], params: dict[str, str], how: PatchType) -> Object:
        request = self._connection.prepare_request(
            "patch",
            _model(asked.resource, asked.subresource),
            dict(obj),
            asked.name,
            asked.namespace or None,
            params=params,
            headers={"Content-Type": how.value},
        )
        return await self._object(request, asked)

    async def _object(self, request: BasicRequest, asked: Asked) -> Object:
        data = await self._connection.read(request, asked, MAX_OBJECT)
        with _understood(asked):
            return _of_kind(asked.resource, json.loads(data))


class _Connection(GenericAsyncClient):
    """lightkube's client, whose answers are read part by part."""

    def __init__(self, config: SingleConfig) -> None:
        timeout = httpx2.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
        super().__init__(ConnectionParams(timeout=timeout), config)
        # a compressed answer would cost both sides more than a network within a cluster does, and could grow when read
        self._client.headers["Accept-Encoding"] = "identity"

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def read(self, request: BasicRequest, asked: Asked, most: int) -> bytes:
        """Return a whole answer; raise its error, or TooLarge for more than `most` bytes."""
        body = bytearray()
        try:
            async with asyncio.timeout(REQUEST_SECONDS), self._answer(request, asked) as answer:
                async for part in answer.aiter_bytes():
                    body += part
                    _check_size(len(body), most, asked)
        except TimeoutError as error:
            raise _unreachable(asked, f"no answer within {REQUEST_SECONDS:g} s") from error
        return bytes(body)

    async def lines(self, request: BasicRequest, asked: Asked) -> AsyncGenerator[bytes]:
        """Yield an empty line when the answer has begun, then its lines until it ends; raise its error."""
        async with self._answer(request, asked) as answer:
            yield b""
            rest = b""
            async for part in answer.aiter_bytes():
                *lines, rest = (rest + part).split(b"\n")
                _check_size(max(map(len, (*lines, rest))), MAX_OBJECT, asked)
                for line in filter(None, lines):
                    yield line

    @asynccontextmanager
    async def _answer(self, request: BasicRequest, asked: Asked) -> AsyncGenerator[httpx2.Response]:
        """Send a request and close its answer in the end; raise the error that it is, or that ends it."""
        answer = None
        try:
            answer = await self._client.send(self.build_adapter_request(request), stream=True)
            if not answer.is_success:
                raise await _refusal(answer, asked)
            yield answer
        except (httpx2.TransportError, ConfigError) as error:  # the latter: the token's file is not there
            raise _unreachable(asked, str(error) or type(error).__name__) from error
        finally:
            if answer is not None:
                await answer.aclose()


async def _refusal(answer: httpx2.Response, asked: Asked) -> RescoldoError:
    """Return the error of an answer that is not a success, whether it has a Status or a proxy's page."""
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > MAX_OBJECT:
            break
    try:
        status = json.loads(body)
    except (ValueError, RecursionError):
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        status = {"message": body[:MAX_MESSAGE].decode(errors="replace").strip() or answer.reason_phrase}
    return error_of({**status, "code": answer.status_code}, asked, answer.headers.get("Retry-After", ""))


def _unreachable(asked: Asked, why: str) -> ClusterUnavailable:
    return ClusterUnavailable(f"the Kubernetes API could not be reached ({asked}): {why}")


def _check_size(size: int, most: int, asked: Asked) -> None:
    if size > most:
        raise TooLarge(f"the Kubernetes API answers {asked} with more than {most} bytes")


@contextmanager
def _understood(asked: Asked) -> Iterator[None]:
    """Turn whatever goes wrong with an answer that no API server gives, but a proxy may, into ClusterUnavailable."""
    try:
        yield
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise _unreachable(asked, f"the answer is not that of a Kubernetes API ({error!r})") from error


def _event(line: bytes, asked: Asked) -> Event:
    """Return an event. An ERROR event, whatever it says, means that the watch cannot go on from its version."""
    data = json.loads(line)
    if data["type"] == "ERROR":
        raise Expired(error_of(data["object"], asked).message)
    return Event(EventType(data["type"]), _of_kind(asked.resource, data["object"]))


def _page(data: bytes, resource: Resource) -> tuple[Page, str]:
    """Return a page of a list, and the token of the next one; empty for the last."""
    found = json.loads(data)
    meta = found["metadata"]
    items = [_of_kind(resource, item) for item in found["items"] or ()]
    return Page(items, meta["resourceVersion"]), meta.get("continue") or ""


def _of_kind(resource: Resource, obj: Object) -> Object:
    """Name the kind, which items of a list leave out, and drop the managed fields."""
    obj["apiVersion"], obj["kind"] = resource.api_version, resource.kind
    obj["metadata"].pop("managedFields", None)
    return obj


def _writing(manager: str) -> dict[str, str]:
    return {"fieldManager": manager, "fieldValidation": "Strict"}  # an unknown field of ours is refused, not dropped


def _place(resource: Resource, namespace: str) -> str | None:
    """Return lightkube's namespace of a list or watch."""
    return (namespace or ALL_NS) if resource.namespaced else None


@cache
def _model(resource: Resource, subresource: str = "") -> Any:
    """Return lightkube's class for a kind. Its own factory has one class a kind for all, and refuses kinds that its
    models have, too."""
    this = ResourceDef(resource.group, resource.version, resource.kind)
    info = ApiInfo(this, resource.plural, VERBS, this if subresource else None, subresource or None)
    base = GenericNamespacedResource if resource.namespaced else GenericGlobalResource
    return type(resource.kind, (base,), {"_api_info": info})
