"""The settings of the gateways under test, and clients for them."""

from __future__ import annotations

import httpx2
from fake_platform import FakePlatform

from rescoldo.api.app import create_app
from rescoldo.api.credentials import Credentials
from rescoldo.model.settings import Settings

SETTINGS = Settings(data="/nowhere/data", run="/nowhere/run", max_system_body=6_000_000)
PAYLOAD_SECRET = b"builds are signed with this"
CREDENTIALS = Credentials("admin", "pässword:with colon")


def client_of(platform: FakePlatform, credentials: Credentials | None) -> httpx2.AsyncClient:
    app = create_app(platform.ports(), SETTINGS, credentials, PAYLOAD_SECRET)
    # as behind uvicorn, an unexpected error becomes a response, not an exception in the client
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://gateway")
