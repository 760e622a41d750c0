"""A controller over fakes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from control_world import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = await World.make()
    yield made
    await made.close()
