"""Without an edge before it, an API has no way that needs no login but its health."""

from __future__ import annotations

import httpx2
import pytest
from fake_platform import FakePlatform

from rescoldo.api.app import create_app
from rescoldo.api.credentials import Credentials
from rescoldo.api.inside import NoInside
from rescoldo.model.settings import Settings

LOGIN = ("admin", "secret")


@pytest.mark.parametrize("path", ["/-/metrics", "/-", "/-/", "/-/owner/system/functions"])
async def test_inner_paths_are_closed_also_with_a_login(path: str) -> None:
    app = create_app(FakePlatform().ports(), Settings("/data", "/run"), Credentials(*LOGIN), b"", [NoInside])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://control") as client:
        assert (await client.get(path, auth=LOGIN)).status_code == 404
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/metrics", auth=LOGIN)).status_code == 200
        assert (await client.get("/healthz")).status_code == 200
