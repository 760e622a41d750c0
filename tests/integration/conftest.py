from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from real_node import RealNode


@pytest.fixture
async def node() -> AsyncIterator[RealNode]:
    real = RealNode()
    try:
        await real.boot()
        yield real
    finally:
        await real.close()
