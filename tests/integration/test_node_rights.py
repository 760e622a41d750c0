"""A node of a root whose rights a container has reduced: its functions must start all the same."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rescoldo.isolation.level import level
from rescoldo.model import ids
from rescoldo.runtime.spare import SPARE_NICE

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.real_node import RealNode, call, until
from support.rights import fewer_rights

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(level() != "full", reason="needs root that may make namespaces"),
]

TELLS = """
import os
def handle(event, context):
    return {"body": [os.getuid(), os.getpriority(os.PRIO_PROCESS, 0), sorted(os.listdir("/"))]}
"""
POD = ids.choose("0 0 65536\n", "0 0 65536\n")


def running(*options: str) -> RealNode:
    return RealNode(lambda _, node: [*fewer_rights(*options), *node])


@pytest.fixture(params=["", "--refuse pivot_root", "--drop sys_nice", "--ids 65536", "--ids 65536 --refuse pivot_root"])
async def node(request: pytest.FixtureRequest) -> AsyncIterator[RealNode]:
    real = running(*request.param.split())
    try:
        await real.boot()
        yield real
    finally:
        await real.close()


def spares(node: RealNode) -> list[int]:
    zygote = node.zygote()
    children = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split() if zygote else []
    return [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == "rescoldo-spare"]


async def test_a_function_has_a_user_and_a_root_of_its_own_and_the_priority_of_the_node(
    node: RealNode, request: pytest.FixtureRequest
) -> None:
    confined = "--ids" in request.node.callspec.params["node"]
    launch = node.launch(TELLS)
    if confined:
        assert POD is not None
        bundle = node.settings.bundles / launch.digest
        for path in (bundle, *bundle.rglob("*")):
            os.chown(path, 0, POD.bundles[0])
    assert (await node.client.describe()).isolation["level"] == "full"
    started = await node.client.start(launch)
    uid, nice, root = json.loads(await call(started))
    assert uid in (POD.instances if confined and POD is not None else ids.INSTANCE_UIDS)
    assert nice == os.getpriority(os.PRIO_PROCESS, 0)
    assert "usr" in root and not {"home", "run", "srv", "boot"} & {*root}


@pytest.mark.parametrize(("options", "lower"), [((), SPARE_NICE), (("--drop", "sys_nice"), 0)])
async def test_a_spare_has_a_lower_priority_only_if_the_node_can_raise_it(options: tuple[str, ...], lower: int) -> None:
    node = running(*options)
    try:
        await node.boot()
        await until(lambda: bool(spares(node)))
        own = os.getpriority(os.PRIO_PROCESS, 0)
        assert {os.getpriority(os.PRIO_PROCESS, pid) for pid in spares(node)} == {own + lower}
        assert node.stderr().count("root has no CAP_SYS_NICE here") == (1 if lower == 0 else 0)
    finally:
        await node.close()
