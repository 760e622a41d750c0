"""An API over a platform in memory, with credentials and without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from fake_platform import FakePlatform
from gateway import CREDENTIALS, client_of

# looptime asks for the current loop around every sync test too; before the first async one asyncio would
# make a loop for it that nobody closes
asyncio.set_event_loop(None)


@pytest.fixture
async def platform() -> FakePlatform:
    return FakePlatform()


@pytest.fixture
async def client(platform: FakePlatform) -> AsyncIterator[httpx2.AsyncClient]:
    """Speaks to a gateway that asks for no credentials."""
    async with client_of(platform, None) as made:
        yield made


@pytest.fixture
async def guarded(platform: FakePlatform) -> AsyncIterator[httpx2.AsyncClient]:
    """Speaks to a gateway that asks for CREDENTIALS."""
    async with client_of(platform, CREDENTIALS) as made:
        yield made
