"""Every attack of the hostile suite against a whole platform is refused and harms no other function."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile.proof import PROVEN, Unprotected, unprotected
from hostile.report import COUNTED
from hostile.suite import Attack, at_level, perform, possible
from hostile.world import PLATFORM_VALUE, World, compile_probe
from support.live import Live
from support.unprivileged import UnprivilegedLive, interpreter, readable_library

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    return compile_probe(tmp_path_factory.mktemp("probe"))


@pytest.fixture(scope="module", autouse=True)
def marked() -> Iterator[None]:
    """Start platforms with a variable that no function may see."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESCOLDO_TEST_MARKER", PLATFORM_VALUE)
        yield


@pytest.fixture(scope="module")
def world(probe: Path | None) -> Iterator[World]:
    with Live() as live, World(live, "full", probe).inhabited() as world:
        yield world


@pytest.fixture(scope="module")
def lower_world(probe: Path | None) -> Iterator[World]:
    python = interpreter()
    if python is None:
        pytest.skip("this Python is in a folder that only root may enter")
    with (
        readable_library() as library,
        UnprivilegedLive(library, python) as live,
        World(live, "unprivileged", probe).inhabited() as world,
    ):
        yield world


def judge(attack: Attack, world: World) -> None:
    if not possible(attack):
        pytest.skip("needs a C compiler")
    outcome = perform(attack, world)
    COUNTED.setdefault(world.level, {})[attack.name] = not outcome.gained
    assert outcome.refused
    assert outcome.gained == {}


@pytest.mark.parametrize("attack", at_level("full"), ids=str)
def test_an_attack_is_refused_at_the_level_full(world: World, attack: Attack) -> None:
    judge(attack, world)


@pytest.fixture(scope="module")
def plain(world: World) -> Iterator[Unprotected]:
    with unprotected(world) as plain:
        yield plain


@pytest.mark.parametrize("name", PROVEN)
def test_the_same_attack_succeeds_without_protection(plain: Unprotected, name: str) -> None:
    report = plain.perform(name)
    assert "the attack itself" not in report["gained"], report
    assert report["gained"] != {}, report


@pytest.mark.parametrize("attack", at_level("unprivileged"), ids=str)
def test_an_attack_is_refused_at_the_level_unprivileged(lower_world: World, attack: Attack) -> None:
    judge(attack, lower_world)
