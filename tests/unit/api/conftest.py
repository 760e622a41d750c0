"""An API over a platform in memory, with credentials and without."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from fake_platform import FakePlatform
from gateway import CREDENTIALS, client_of


@pytest.fixture
async def platform() -> FakePlatform:
    return FakePlatform()


@pytest.fixture
async def client(platform: FakePlatform) -> AsyncIterator[httpx2.AsyncClient]:
    """Speaks to a gateway that requires no credentials."""
    async with client_of(platform, None) as made:
        yield made


@pytest.fixture
async def guarded(platform: FakePlatform) -> AsyncIterator[httpx2.AsyncClient]:
    """Speaks to a gateway that requires CREDENTIALS."""
    async with client_of(platform, CREDENTIALS) as made:
        yield made
