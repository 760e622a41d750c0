from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from runtime_process import Instance, start, write_bundle

from support.real_node import RealNode


@pytest.fixture
async def node(request: pytest.FixtureRequest) -> AsyncIterator[RealNode]:
    """Run a node; a parameter maps its folders and command to the command that runs instead."""
    prefix = getattr(request, "param", [])
    real = RealNode(lambda _, command: [*prefix, *command])
    try:
        await real.boot()
        yield real
    finally:
        await real.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Instance]]:
    """Start an instance of the given handler.py."""
    started: list[Instance] = []

    def start_it(code: str, **launch: Any) -> Instance:
        write_bundle(tmp_path, code)
        started.append(start(tmp_path, **launch))
        return started[-1]

    yield start_it
    for instance in started:
        instance.close()
