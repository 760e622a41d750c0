"""What every implementation of a controller's `Secrets` promises."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rescoldo.model.errors import StoreError
from rescoldo.store.memory import MemorySecrets
from rescoldo.store.protocol import Secrets
from rescoldo.store.secretfiles import SecretFiles


@dataclass
class Kept:
    secrets: Secrets
    read: Callable[[str, str], bytes]  # as the node does


@pytest.fixture(params=["memory", "files"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    if request.param == "memory":
        memory = MemorySecrets()
        return Kept(memory, lambda namespace, name: memory.values[namespace, name])
    folder = tmp_path / "data" / "function-secrets"  # the first save makes it
    return Kept(SecretFiles(folder), lambda namespace, name: (folder / namespace / name).read_bytes())


async def test_a_saved_secret_is_there_byte_for_byte(kept: Kept) -> None:
    value = bytes(range(256)) * 4096
    await kept.secrets.save("blue", "key", value)
    assert kept.read("blue", "key") == value


async def test_saving_again_replaces_the_value(kept: Kept) -> None:
    await kept.secrets.save("blue", "key", b"a longer old value")
    await kept.secrets.save("blue", "key", b"new")
    assert kept.read("blue", "key") == b"new"
    assert await kept.secrets.names("blue") == ["key"]


async def test_names_are_sorted_and_of_one_namespace(kept: Kept) -> None:
    for namespace, name in (("blue", "b"), ("blue", "a.b-c"), ("red", "r")):
        await kept.secrets.save(namespace, name, b"x")
    assert await kept.secrets.names("blue") == ["a.b-c", "b"]
    assert await kept.secrets.names("green") == []


async def test_a_deleted_secret_is_gone_and_its_namesake_in_another_namespace_stays(kept: Kept) -> None:
    await kept.secrets.save("blue", "key", b"x")
    await kept.secrets.save("red", "key", b"y")
    await kept.secrets.delete("blue", "key")
    assert await kept.secrets.names("blue") == []
    assert kept.read("red", "key") == b"y"


async def test_deleting_a_missing_secret_is_no_error(kept: Kept) -> None:
    await kept.secrets.delete("blue", "key")
    await kept.secrets.delete_namespace("blue")
    assert await kept.secrets.names("blue") == []


async def test_a_namespace_loses_all_its_secrets_at_once(kept: Kept) -> None:
    for namespace, name in (("blue", "a"), ("blue", "b"), ("red", "a")):
        await kept.secrets.save(namespace, name, b"x")
    await kept.secrets.delete_namespace("blue")
    assert (await kept.secrets.names("blue"), await kept.secrets.names("red")) == ([], ["a"])


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
