"""What a worker says that it serves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from control_world import FN, World

from rescoldo.control.observe.served import Served

pytestmark = pytest.mark.looptime


async def test_instances_of_all_revisions_are_counted_together(world: World) -> None:
    served = Served(world.fleet.entries)
    await world.deploy()
    await world.deploy("idle")
    assert served.awake() == {}
    await world.edge.call(FN)
    await world.deploy()
    await world.scaling.scale(FN, 2)
    await world.traffic.split(FN, {1: 50, 2: 50})
    await world.settle()
    assert served.awake() == {FN: 3}


async def test_a_document_is_served_once_its_function_is_the_fleets(world: World) -> None:
    served = Served(world.fleet.entries)
    await world.deploy()
    document = world.store.documents.shared[FN]
    assert served.serves(document)
    assert not served.serves(replace(document, function=replace(document.function, revision=2)))
    await world.removals.remove(FN)
    assert not served.serves(document)
