from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from real_node import RealNode


@pytest.fixture
async def node(request: pytest.FixtureRequest) -> AsyncIterator[RealNode]:
    """A parameter is the command that runs the node's."""
    prefix = getattr(request, "param", [])
    real = RealNode(lambda _, command: [*prefix, *command])
    try:
        await real.boot()
        yield real
    finally:
        await real.close()
