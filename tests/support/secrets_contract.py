"""What every implementation of a controller's `Secrets` promises. Each place that runs these tests has a fixture
`kept`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rescoldo.store.protocol import Secrets


@dataclass
class Kept:
    secrets: Secrets
    read: Callable[[str, str], Awaitable[bytes]]  # as the node does
    blue: str = "blue"  # two namespaces without secrets, and one that does not exist or has none
    red: str = "red"
    green: str = "green"


async def test_a_saved_secret_is_there_byte_for_byte(kept: Kept) -> None:
    value = bytes(range(256)) * 4096
    await kept.secrets.save(kept.blue, "key", value)
    assert await kept.read(kept.blue, "key") == value


async def test_saving_again_replaces_the_value(kept: Kept) -> None:
    await kept.secrets.save(kept.blue, "key", b"a longer old value")
    await kept.secrets.save(kept.blue, "key", b"new")
    assert await kept.read(kept.blue, "key") == b"new"
    assert await kept.secrets.names(kept.blue) == ["key"]


async def test_names_are_sorted_and_of_one_namespace(kept: Kept) -> None:
    for namespace, name in ((kept.blue, "b"), (kept.blue, "a.b-c"), (kept.red, "r")):
        await kept.secrets.save(namespace, name, b"x")
    assert await kept.secrets.names(kept.blue) == ["a.b-c", "b"]
    assert await kept.secrets.names(kept.green) == []


async def test_secrets_that_are_saved_at_once_keep_their_own_values(kept: Kept) -> None:
    """Workers save those of several functions at the same time."""
    for _ in range(5):
        names = [f"key{number}" for number in range(16)]
        await asyncio.gather(*(kept.secrets.save(kept.blue, name, 50 * name.encode()) for name in names))
        assert [await kept.read(kept.blue, name) for name in names] == [50 * name.encode() for name in names]
        await kept.secrets.delete_namespace(kept.blue)


async def test_those_that_exist_are_brought(kept: Kept) -> None:
    await kept.secrets.save(kept.blue, "key", b"x")
    await kept.secrets.save(kept.red, "other", b"x")
    assert await kept.secrets.bring(kept.blue, ("key", "other")) == {"key"}
    assert await kept.secrets.bring(kept.green, ()) == set()
    assert await kept.read(kept.blue, "key") == b"x"


async def test_a_deleted_secret_is_gone_and_its_namesake_in_another_namespace_stays(kept: Kept) -> None:
    await kept.secrets.save(kept.blue, "key", b"x")
    await kept.secrets.save(kept.red, "key", b"y")
    await kept.secrets.delete(kept.blue, "key")
    assert await kept.secrets.names(kept.blue) == []
    assert await kept.read(kept.red, "key") == b"y"


async def test_a_deleted_secret_can_be_made_again(kept: Kept) -> None:
    for value in (b"x", b"y", b"z"):
        await kept.secrets.save(kept.blue, "key", value)
        assert (await kept.secrets.names(kept.blue), await kept.read(kept.blue, "key")) == (["key"], value)
        await kept.secrets.delete(kept.blue, "key")
        assert await kept.secrets.names(kept.blue) == []


async def test_deleting_a_missing_secret_is_no_error(kept: Kept) -> None:
    await kept.secrets.delete(kept.blue, "key")
    await kept.secrets.delete_namespace(kept.blue)
    assert await kept.secrets.names(kept.blue) == []


async def test_a_namespace_loses_all_its_secrets_at_once(kept: Kept) -> None:
    for namespace, name in ((kept.blue, "a"), (kept.blue, "b"), (kept.red, "a")):
        await kept.secrets.save(namespace, name, b"x")
    await kept.secrets.delete_namespace(kept.blue)
    assert (await kept.secrets.names(kept.blue), await kept.secrets.names(kept.red)) == ([], ["a"])
