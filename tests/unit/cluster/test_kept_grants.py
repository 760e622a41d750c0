"""Holders of grants outlive control: the next one lets nobody else have a function too early."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rescoldo.cluster.grants import KeptGrants
from rescoldo.model.errors import StoreError
from rescoldo.model.names import function_id
from rescoldo.policy.grants import GRANT_SECONDS, WAIT_SECONDS

pytestmark = pytest.mark.looptime
FN = function_id("fn")


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    """Of a control that has run for a while."""
    KeptGrants.open(tmp_path / "grants.json")
    return tmp_path / "grants.json"


async def test_one_holder_at_a_time(file: Path) -> None:
    grants = KeptGrants.open(file)
    first = await grants.grant(FN, "one")
    assert first.seconds == GRANT_SECONDS
    assert (await grants.grant(FN, "two")).seconds == 0
    await grants.give_back(FN, "one", first.token)
    assert (await grants.grant(FN, "two")).seconds == GRANT_SECONDS


async def test_the_next_control_knows_the_holder(file: Path) -> None:
    await KeptGrants.open(file).grant(FN, "one")
    later = KeptGrants.open(file)
    assert (await later.grant(FN, "two")).seconds == 0
    assert (await later.grant(FN, "one")).seconds == GRANT_SECONDS
    assert (await later.grant(function_id("other"), "two")).seconds == GRANT_SECONDS


@pytest.mark.parametrize("damage", ["lost", "no JSON", "[1]"])
async def test_without_the_file_nobody_gets_anything_at_first(file: Path, damage: str) -> None:
    file.unlink() if damage == "lost" else file.write_text(damage)
    grants = KeptGrants.open(file)
    refused = await grants.grant(FN, "one")
    assert (refused.seconds, refused.retry_after) == (0, pytest.approx(WAIT_SECONDS))
    await asyncio.sleep(WAIT_SECONDS)
    assert (await grants.grant(FN, "one")).seconds == GRANT_SECONDS


async def test_what_cannot_be_saved_is_not_granted(file: Path) -> None:
    grants = KeptGrants.open(file)
    file.unlink()
    file.parent.rename(file.parent.with_name("away"))
    with pytest.raises(StoreError, match="free some space"):
        await grants.grant(FN, "one")
