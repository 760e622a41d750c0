"""The platform's own routes refuse requests of pages in a browser."""

from __future__ import annotations

import pytest
from gateway import CREDENTIALS
from httpx2 import AsyncClient
from starlette.datastructures import Headers

from rescoldo.api.nopages import is_of_a_page


@pytest.mark.parametrize(
    ("method", "headers", "refused"),
    [
        ("GET", {}, False),  # a command line
        ("POST", {"content-type": "application/x-www-form-urlencoded"}, False),  # curl -d
        ("GET", {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, False),  # a typed address
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, False),  # a link in a wiki
        ("GET", {"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"}, True),  # a window of a function's page
        ("GET", {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, True),  # fetch() of a function's page
        ("GET", {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"}, True),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, True),  # <img src=…/system/…>
        ("POST", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, True),  # another site's form
        ("POST", {"origin": "http://gateway:8080"}, True),  # a browser that sends no Sec-Fetch-Site
        ("DELETE", {"origin": "null"}, True),
        ("PUT", {"sec-fetch-site": "same-origin"}, True),
    ],
)
def test_requests_of_pages_are_recognized(method: str, headers: dict[str, str], refused: bool) -> None:
    assert is_of_a_page({"method": method, "headers": Headers(headers).raw}) == refused


async def test_a_page_is_refused_even_with_valid_credentials(guarded: AsyncClient) -> None:
    login = (CREDENTIALS.user, CREDENTIALS.password)
    answer = await guarded.get("/system/functions", headers={"Sec-Fetch-Site": "same-origin"}, auth=login)
    assert (answer.status_code, answer.text) == (
        403,
        "web pages may not call this API; use a command line or a program\n",
    )


async def test_a_page_may_use_public_routes(guarded: AsyncClient) -> None:
    answer = await guarded.get("/healthz", headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 200
