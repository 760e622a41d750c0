"""Functions' secrets in a real Kubernetes: the contract of secrets, and what kubectl does to them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from statistics import median

import pytest

from rescoldo.cluster.secrets import KubeSecrets, SecretName
from rescoldo.kube.client import LightkubeCluster
from rescoldo.model.errors import Conflict, NotFound
from support.patience import until
from support.secrets_contract import *  # noqa: F403  the tests
from support.secrets_contract import Kept
from support.testcluster import kubectl

pytestmark = pytest.mark.slow


@pytest.fixture
async def secrets(api_server: LightkubeCluster, namespaces: tuple[str, str]) -> AsyncIterator[KubeSecrets]:
    found = KubeSecrets(api_server, namespaces)
    following = asyncio.create_task(found.run())
    await until(lambda: all(space._known is not None for space in found._spaces.values()))
    yield found
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    for namespace in namespaces:
        kubectl("delete", "secrets", "--all", "-n", namespace)


@pytest.fixture
def kept(secrets: KubeSecrets, namespaces: tuple[str, str]) -> Kept:
    async def read(namespace: str, name: str) -> bytes:
        return (await secrets.values(namespace, [name]))[name]

    return Kept(secrets, read, namespaces[0], namespaces[1], "does-not-exist")


def by_kubectl(namespace: str, name: str, *values: str) -> None:
    literals = [f"--from-literal={value}" for value in values]
    kubectl("create", "secret", "generic", name, "-n", namespace, *literals)


async def test_a_secret_that_kubectl_has_made_is_for_functions_with_the_label_alone(
    secrets: KubeSecrets, namespaces: tuple[str, str]
) -> None:
    namespace = namespaces[0]
    by_kubectl(namespace, "word", "word=open sesame", "more=1")
    with pytest.raises(NotFound, match=f"kubectl label secret word -n {namespace} rescoldo.dev/secret=true"):
        await secrets.values(namespace, ["word"])
    with pytest.raises(Conflict):
        await secrets.save(namespace, "word", b"x")
    changes = secrets.changes()
    kubectl("label", "secret", "word", "-n", namespace, "rescoldo.dev/secret=true")
    async with asyncio.timeout(10):
        assert await anext(changes) == SecretName(namespace, "word")
    assert await secrets.values(namespace, ["word"]) == {"word": b"open sesame"}
    kubectl("patch", "secret", "word", "-n", namespace, "-p", '{"stringData": {"word": "shut"}}')
    async with asyncio.timeout(10):
        assert await anext(changes) == SecretName(namespace, "word")
    assert await secrets.values(namespace, ["word"]) == {"word": b"shut"}
    await secrets.save(namespace, "word", b"open again")
    assert kubectl("get", "secret", "word", "-n", namespace, "-o", "jsonpath={.data.more}") == "MQ=="
    kubectl("label", "secret", "word", "-n", namespace, "rescoldo.dev/secret-")
    async with asyncio.timeout(10):
        assert await anext(changes) == SecretName(namespace, "word"), "what control has saved itself was told"


async def test_a_delivery_takes_its_secrets_from_memory(secrets: KubeSecrets, namespaces: tuple[str, str]) -> None:
    names = [f"s{number}" for number in range(10)]
    for name in names:
        await secrets.save(namespaces[0], name, name.encode())
    await until(lambda: not any(space._written for space in secrets._spaces.values()))
    times = []
    for _ in range(50):
        began = time.perf_counter()
        found = await secrets.values(namespaces[0], names)
        times.append(time.perf_counter() - began)
    assert found == {name: name.encode() for name in names}
    assert median(times) < 0.001


async def test_a_missing_namespace_is_named(secrets: KubeSecrets) -> None:
    with pytest.raises(NotFound, match='namespaces "does-not-exist" not found'):
        await secrets.save("does-not-exist", "key", b"x")


async def test_no_value_is_in_an_error(secrets: KubeSecrets, namespaces: tuple[str, str]) -> None:
    namespace = namespaces[0]
    await secrets.save(namespace, "fixed", b"s3cret")
    kubectl("patch", "secret", "fixed", "-n", namespace, "-p", '{"immutable": true}')
    with pytest.raises(Exception, match="immutable") as caught:
        await secrets.save(namespace, "fixed", b"s3cret2")
    assert "s3cret" not in str(caught.value)
    assert "czNjcmV0" not in str(caught.value)
