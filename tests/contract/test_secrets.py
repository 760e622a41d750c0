"""Secrets in memory, in files and in a fake of Kubernetes keep the contract; tests/kubernetes/test_kube_secrets.py asks
a real one."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rescoldo.cluster.secrets import KubeSecrets
from rescoldo.kube.fake import FakeCluster
from rescoldo.model.errors import StoreError
from rescoldo.store.memory import MemorySecrets
from rescoldo.store.secretfiles import SecretFiles
from support.secrets_contract import *  # noqa: F403  the tests
from support.secrets_contract import Kept


def in_memory() -> Kept:
    memory = MemorySecrets()

    async def read(namespace: str, name: str) -> bytes:
        return memory.values[namespace, name]

    return Kept(memory, read)


def in_files(folder: Path) -> Kept:
    async def read(namespace: str, name: str) -> bytes:
        return (folder / namespace / name).read_bytes()

    return Kept(SecretFiles(folder), read)


def of_kubernetes(secrets: KubeSecrets) -> Kept:
    async def read(namespace: str, name: str) -> bytes:
        return (await secrets.values(namespace, [name]))[name]

    return Kept(secrets, read)


@pytest.fixture(params=["memory", "files", "kubernetes", "kubernetes, followed"])
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kept]:
    if request.param == "memory":
        yield in_memory()
    elif request.param == "files":
        yield in_files(tmp_path / "data" / "function-secrets")  # the first save makes it
    else:
        secrets = KubeSecrets(FakeCluster(), ["blue", "red"])
        running = [asyncio.create_task(secrets.run())] if "followed" in request.param else []
        yield of_kubernetes(secrets)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


# -- the files alone


async def test_only_the_platforms_user_may_read_the_files(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir(mode=0o755)  # as after a restore from a copy
    before = os.umask(0)
    try:
        await SecretFiles(tmp_path / "s").save("blue", "key", b"x")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / "s" / part).stat().st_mode) for part in ("", "blue", "blue/key")]
    assert modes == [0o700, 0o700, 0o600]


async def test_a_file_half_written_at_a_crash_is_neither_listed_nor_in_the_way(tmp_path: Path) -> None:
    secrets = SecretFiles(tmp_path)
    await secrets.save("blue", "key", b"old")
    (tmp_path / "blue" / ".new").write_bytes(b"half of a much longer value")
    assert await secrets.names("blue") == ["key"]
    await secrets.save("blue", "other", b"new")
    assert sorted(path.name for path in (tmp_path / "blue").iterdir()) == ["key", "other"]
    assert (tmp_path / "blue" / "other").read_bytes() == b"new"


async def test_an_error_of_the_disk_raises_a_store_error_without_the_value(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"secrets in .*/file: File exists") as caught:
        await SecretFiles(tmp_path / "file").save("blue", "key", b"s3cret")
    assert "s3cret" not in str(caught.value)
