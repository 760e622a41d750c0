"""/ui/: the status page."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

from fake_platform import FakePlatform
from httpx2 import AsyncClient

from rescoldo.model.function import Function, FunctionSpec, FunctionStatus
from rescoldo.model.names import FunctionId

HOSTILE = "<script>alert(1)</script>\"'&"


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self._cell = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
        self._cell = tag == "td"

    def handle_endtag(self, tag: str) -> None:
        self._cell = False

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.rows[-1][-1] += data


async def test_the_front_page_redirects_to_the_ui(client: AsyncClient) -> None:
    for path in ("/", "/ui"):
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (307, "/ui/")


async def test_the_page_lists_the_functions_of_all_namespaces(client: AsyncClient) -> None:
    await client.post("/system/namespace/blue")
    for namespace in ("", "blue"):
        await client.post("/system/functions", json={"service": "echo", "image": "me/echo:1", "namespace": namespace})
    answer = await client.get("/ui/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert Page(answer.text).rows[1:] == [
        ["echo", "blue", "me/echo:1", "ready", "1/1", "42"],
        ["echo", "openfaas-fn", "me/echo:1", "ready", "1/1", "42"],
    ]


async def test_names_chosen_by_users_are_escaped(client: AsyncClient, platform: FakePlatform) -> None:
    # an image may have such a name, and so may functions if their rule ever changes
    function = Function(FunctionSpec(HOSTILE, HOSTILE, HOSTILE), "d" * 64, 0.0)
    platform.deployed[FunctionId("x.openfaas-fn")] = FunctionStatus(function, 1, 1, 0)
    page = Page((await client.get("/ui/")).text)
    assert page.rows[1][:3] == [HOSTILE] * 3
    assert "script" not in page.tags


async def test_the_page_has_no_scripts_fetches_nothing_and_has_its_own_style(client: AsyncClient) -> None:
    answer = await client.get("/ui/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src" not in policy
    style = re.search("<style>(.*?)</style>", answer.text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy


async def test_many_functions_are_all_listed(client: AsyncClient) -> None:
    for number in range(450):
        await client.post("/system/functions", json={"service": f"f-{number:03d}", "image": "i"})
    rows = Page((await client.get("/ui/")).text).rows[1:]
    assert [row[0] for row in rows] == [f"f-{number:03d}" for number in range(450)]
