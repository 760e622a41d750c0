"""Functions as objects of a real Kubernetes: saved, changed by others, removed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from rescoldo.cluster.acknowledgements import Acknowledgements
from rescoldo.cluster.documents import KubeDocuments
from rescoldo.cluster.finalizers import Finalizers
from rescoldo.cluster.reports import Reports
from rescoldo.kube.client import LightkubeCluster
from rescoldo.kube.definition import definition
from rescoldo.model.deployed import Deployed
from rescoldo.model.errors import Superseded
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.revision import Revision
from rescoldo.model.standing import Standing
from rescoldo.store.documents import DocumentFunctions
from support.patience import SLOWNESS
from support.testcluster import kubectl

pytestmark = pytest.mark.slow

# until Kubernetes deletes what a deleted object owns: its collector looks for new kinds every 30 s, and the kind of
# functions may be seconds old; then it reads all owners anew
COLLECTED_SECONDS = 90


@pytest.fixture
async def documents(api_server: LightkubeCluster, namespaces: tuple[str, str]) -> AsyncIterator[KubeDocuments]:
    kubectl("apply", "-f", "-", stdin=definition())
    kubectl("wait", "--for=condition=Established", "crd/functions.rescoldo.dev", "--timeout=20s")
    found = KubeDocuments(api_server)
    tasks = [asyncio.create_task(found.run())]
    async with asyncio.timeout(20 * SLOWNESS):
        await found.ready.wait()
    acknowledgements = Acknowledgements(Reports(), found.remind, found.version)
    tasks.append(asyncio.create_task(Finalizers(found, acknowledgements, namespaces).run()))
    yield found
    for namespace in namespaces:  # else its functions would keep it
        await asyncio.to_thread(kubectl, "delete", "functions", "--all", "-n", namespace, "--timeout=60s")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def deployed(namespace: str, name: str = "echo") -> Deployed:
    spec = FunctionSpec(name, "me/echo:1", namespace, env_vars={"a": "ä\n"}, secrets=("word",))
    return Deployed(Function(spec, "a" * 64, 1.5, revised_at=2.5), standing=Standing(untried=True))


async def test_a_function_and_its_revisions_are_objects(documents: KubeDocuments, namespaces: tuple[str, str]) -> None:
    namespace = namespaces[0]
    first = deployed(namespace)
    functions = DocumentFunctions(documents)
    await functions.save_function(first.function, standing=Standing(untried=True))
    newer = replace(first.function, spec=replace(first.function.spec, image="me/echo:2"), revision=2)
    await functions.save_function(newer, standing=Standing())
    await functions.save_failed(first.id, Revision(3, newer.spec, "b" * 64, 4.0, failure="no such module"))
    found = await documents.get(first.id)
    assert found is not None
    assert found.function == newer
    assert [(one.number, one.failure) for one in found.revisions] == [(3, "no such module"), (1, "")]
    kept = json.loads(kubectl("get", "controllerrevisions", "-n", namespace, "-o", "json"))["items"]
    assert sorted(one["revision"] for one in kept) == [1, 2, 3]
    assert "me/echo:2" in kubectl("get", "functions", "-n", namespace)

    again = KubeDocuments(documents._cluster)  # another control, from nothing
    following = asyncio.create_task(again.run())
    await again.ready.wait()
    assert await again.get(first.id) == found
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)

    await functions.delete_function(first.id)
    async with asyncio.timeout(COLLECTED_SECONDS * SLOWNESS):
        while kubectl("get", "controllerrevisions", "-n", namespace, "-o", "name"):
            await asyncio.sleep(0.1)


async def test_what_a_user_asks_for_by_kubectl_serves_only_when_it_is_deployed(
    documents: KubeDocuments, namespaces: tuple[str, str]
) -> None:
    namespace = namespaces[0]
    version = await documents.put(deployed(namespace, "asked"))
    kubectl("patch", "function", "asked", "-n", namespace, "--type=merge", "-p", '{"spec": {"image": "me/other:1"}}')
    kubectl("label", "function", "asked", "-n", namespace, "team=blue")
    found = await documents.get(deployed(namespace, "asked").id)
    assert found is not None
    assert (found.version, found.function.spec.image) == (version, "me/echo:1")
    paused = await documents.put(replace(found, standing=Standing(paused=True)))
    assert paused > version
    with pytest.raises(Superseded):
        await documents.put(found)
