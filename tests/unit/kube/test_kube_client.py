"""What the client does with answers that a healthy API server does not give, from a small server of the test's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from lightkube.config.kubeconfig import KubeConfig
from lightkube.config.models import Cluster, User

from rescoldo.kube import client
from rescoldo.kube.client import LightkubeCluster, find_cluster
from rescoldo.kube.errors import ClusterUnavailable, Expired
from rescoldo.kube.protocol import EventType, Resource
from rescoldo.model.errors import InvalidInput, RescoldoError, TooLarge

PODS = Resource("", "v1", "Pod", "pods")
Answer = Callable[[str], bytes | None]  # from the head of a request; None: nothing, for ever


def http(body: object, status: str = "200 OK", *headers: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def pod(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "blue", "resourceVersion": "7", **more}}


class Heads(list[str]):
    url = ""


@asynccontextmanager
async def answering(
    answer: Answer, user: User | None = None, **settings: Any
) -> AsyncIterator[tuple[LightkubeCluster, Heads]]:
    """A cluster behind a server that gives `answer`, and the heads of the requests, which know its URL."""
    heads = Heads()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                heads.append(head)
                if (data := answer(head)) is None:
                    await asyncio.Event().wait()
                    return
                writer.write(data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    heads.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    config = KubeConfig.from_one(cluster=Cluster(server=heads.url), user=user or User()).get()
    try:
        async with LightkubeCluster(config, **settings) as cluster:
            yield cluster, heads
    finally:
        server.close()


async def events_of(cluster: LightkubeCluster) -> list[EventType]:
    return [event.type async for event in cluster.watch(PODS, "5", "blue")]


async def test_a_watch_whose_server_is_silent_ends() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    sent = iter([head, None])

    def answer(_: str) -> bytes | None:
        return next(sent)

    async with answering(answer, watch_seconds=0, grace=0.05) as (cluster, heads):
        with pytest.raises(ClusterUnavailable, match=r"watch pods in namespace blue.*ReadTimeout"):
            await events_of(cluster)
    assert "timeoutSeconds=0" in heads[0] and "allowWatchBookmarks=true" in heads[0]


async def test_an_answer_that_never_begins_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "REQUEST_SECONDS", 0.05)
    async with answering(lambda _: None) as (cluster, _):
        with pytest.raises(ClusterUnavailable, match=r"get pods a in namespace blue\): no answer within 0.05 s"):
            await cluster.get(PODS, "a", "blue")


async def test_nobody_listens() -> None:
    config = KubeConfig.from_one(cluster=Cluster(server="http://127.0.0.1:1"), user=User()).get()
    async with LightkubeCluster(config) as cluster:
        with pytest.raises(ClusterUnavailable, match="could not be reached"):
            await cluster.get(PODS, "a", "blue")


@pytest.mark.parametrize(
    ("answer", "wait"),
    [
        (http({"kind": "Status", "message": "slow down"}, "429 Too Many Requests", "Retry-After: 7"), 7.0),
        (http({"kind": "Status", "details": {"retryAfterSeconds": 3}}, "503 Service Unavailable"), 3.0),
        (http(b"<html>Bad gateway</html>", "502 Bad Gateway"), 1.0),
        (http(b"", "500 Internal Server Error", "Retry-After: 100000"), 60.0),
        (http(b"not json"), 1.0),
        (http([1]), 1.0),
        (http({"kind": "Pod"}), 1.0),
        (http(b"[" * 100_000), 1.0),
    ],
)
async def test_what_may_be_better_in_a_moment_is_unavailable(answer: bytes, wait: float) -> None:
    async with answering(lambda _: answer) as (cluster, _):
        with pytest.raises(ClusterUnavailable) as caught:
            await cluster.get(PODS, "a", "blue")
    assert caught.value.retry_after == wait


async def test_a_page_that_is_too_large_is_asked_for_in_smaller_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_PAGE", 2500)
    names = [f"p{number}" for number in range(5)]

    def answer(head: str) -> bytes:
        query = dict(part.split("=") for part in head.split()[1].partition("?")[2].split("&"))
        first, limit = int(query.get("continue", 0)), int(query["limit"])
        chosen = names[first : first + limit]
        rest = {"continue": str(first + limit)} if first + limit < len(names) else {}
        items = [pod(name, annotations={"x": "y" * 1000}) for name in chosen]
        return http({"metadata": {"resourceVersion": "9", **rest}, "items": items})

    async with answering(answer, page=4) as (cluster, heads):
        pages = [page async for page in cluster.list(PODS, "blue")]
    assert [[item["metadata"]["name"] for item in page.items] for page in pages] == [["p0", "p1"], ["p2", "p3"], ["p4"]]
    assert [head.split("limit=")[1][0] for head in heads] == ["4", "2", "2", "2"]


async def test_an_object_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_PAGE", 500)
    monkeypatch.setattr(client, "MAX_OBJECT", 500)
    large = pod("large", annotations={"x": "y" * 1000})
    async with answering(lambda _: http({"metadata": {"resourceVersion": "9"}, "items": [large]})) as (cluster, _):
        with pytest.raises(TooLarge, match="more than 500 bytes"):
            _ = [page async for page in cluster.list(PODS, "blue")]
        with pytest.raises(TooLarge, match="get pods large in namespace blue with more than 500 bytes"):
            await cluster.get(PODS, "large", "blue")
    line = json.dumps({"type": "ADDED", "object": large}).encode()
    async with answering(lambda _: http(line + b"\n")) as (cluster, _):
        with pytest.raises(TooLarge, match="watch pods"):
            await events_of(cluster)


@pytest.mark.parametrize("code", [410, 500, 504])
async def test_an_error_event_means_that_the_list_must_be_read_again(code: int) -> None:
    added = json.dumps({"type": "ADDED", "object": pod("a")}).encode()
    gone = json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": code, "message": "too old"}}).encode()
    async with (
        answering(lambda _: http(added + b"\n" + gone + b"\n")) as (cluster, _),
        aclosing(cluster.watch(PODS, "5", "blue")) as events,
    ):
        assert [(await anext(events)).type for _ in range(2)] == [EventType.OPENED, EventType.ADDED]
        with pytest.raises(Expired, match="too old"):
            await anext(events)


@pytest.mark.parametrize(
    "answer", [{}, {"metadata": {}}, {"metadata": {"resourceVersion": "1"}, "items": [1]}, {"items": 5, "metadata": 1}]
)
async def test_a_list_that_is_none_is_unavailable(answer: object) -> None:
    async with answering(lambda _: http(answer)) as (cluster, _):
        with pytest.raises(ClusterUnavailable, match="not that of a Kubernetes API"):
            _ = [page async for page in cluster.list(PODS, "blue")]


@pytest.mark.parametrize(
    "line", [b"{}", b"<html>", b'{"type": "NEW", "object": {}}', b'{"type": "ADDED", "object": 1}']
)
async def test_an_event_that_is_none_is_unavailable(line: bytes) -> None:
    async with answering(lambda _: http(line + b"\n")) as (cluster, _):
        with pytest.raises(ClusterUnavailable, match="not that of a Kubernetes API"):
            await events_of(cluster)


async def test_a_watch_cut_within_a_line_is_unavailable() -> None:
    head = b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"type": "ADD'

    def answer(_: str) -> bytes:
        return head

    async with answering(answer, watch_seconds=0, grace=0.05) as (cluster, _):
        with pytest.raises(ClusterUnavailable):
            await events_of(cluster)


async def test_the_token_is_read_again_when_it_is_refused(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")

    def answer(head: str) -> bytes:
        given = head.lower().split("authorization: bearer ")[1].split()[0]
        return http(pod("a")) if given == token.read_text() else http({"kind": "Status"}, "401 Unauthorized")

    async with answering(answer, User(token_file=str(token))) as (cluster, heads):
        await cluster.get(PODS, "a", "blue")
        token.write_text("new")
        await cluster.get(PODS, "a", "blue")
        await cluster.get(PODS, "a", "blue")
        assert len(heads) == 4


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_a_program_gives_the_token(tmp_path: Path, version: str) -> None:
    credential = {"kind": "ExecCredential", "status": {"token": "from-a-program"}}
    program = {
        "apiVersion": f"client.authentication.k8s.io/{version}",
        "command": "echo",
        "args": [json.dumps(credential)],
    }
    async with answering(lambda _: http(pod("a"))) as (_, heads):
        path = tmp_path / "config"
        config = {
            "current-context": "x",
            "clusters": [{"name": "x", "cluster": {"server": heads.url}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "users": [{"name": "x", "user": {"exec": program}}],
        }
        path.write_text(json.dumps(config))
        async with find_cluster(path) as cluster:
            await cluster.get(PODS, "a", "blue")
    assert "authorization: bearer from-a-program" in heads[0].lower()


async def test_a_redirect_is_not_followed() -> None:
    async with answering(lambda _: http(b"", "302 Found", "Location: http://127.0.0.1:1/")) as (cluster, heads):
        with pytest.raises(RescoldoError, match="did not get pods a"):
            await cluster.get(PODS, "a", "blue")
    assert len(heads) == 1


@pytest.mark.parametrize("text", ["", "[]", "clusters: []", "a: [", "{current-context: x, clusters: [], contexts: []}"])
def test_a_kubeconfig_that_is_not_valid_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=f"kubeconfig {path}: "):
        find_cluster(path)


def test_a_kubeconfig_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not found"):
        find_cluster(tmp_path / "nothing")
