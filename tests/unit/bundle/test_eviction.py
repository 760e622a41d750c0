"""Bounds on the disk space of a set of folders."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from rescoldo.bundle.eviction import evict, used_at

NOW = 10_000.0


def made(tmp_path: Path, *folders: tuple[int, float]) -> dict[Path, int]:
    """Make a folder for each pair: its bytes, and how many seconds ago it was used."""
    sizes = {}
    for number, (size, ago) in enumerate(folders):
        folder = tmp_path / str(number)
        folder.mkdir()
        os.utime(folder, (NOW - ago, NOW - ago))
        sizes[folder] = size
    return sizes


def removed(sizes: dict[Path, int], room: int, spared: float = 0.0, longest: float = math.inf) -> list[int]:
    """The numbers of the evicted folders, in order."""
    gone: list[int] = []

    def remove(folder: Path) -> bool:
        gone.append(int(folder.name))
        return True

    evict(sizes, room, NOW, spared=spared, longest=longest, remove=remove)
    return gone


@pytest.mark.parametrize(
    ("room", "expected"),
    [(120, []), (119, [0]), (100, [1]), (90, [1, 0]), (70, [2, 1]), (59, [3, 0]), (0, [3, 2, 1, 0])],
)
def test_the_most_recently_used_folders_stay_as_long_as_they_fit(
    tmp_path: Path, room: int, expected: list[int]
) -> None:
    sizes = made(tmp_path, (10, 400), (20, 300), (30, 200), (60, 100))
    assert removed(sizes, room) == expected


def test_a_folder_used_just_now_stays_even_if_it_does_not_fit_and_counts(tmp_path: Path) -> None:
    assert removed(made(tmp_path, (10, 400), (60, 10)), 50, spared=50) == [0]


def test_a_folder_unused_for_too_long_is_removed_even_if_it_fits(tmp_path: Path) -> None:
    assert removed(made(tmp_path, (10, 400), (10, 300)), 1000, longest=350) == [0]


def test_a_folder_that_is_in_use_meanwhile_still_counts(tmp_path: Path) -> None:
    sizes = made(tmp_path, (10, 400), (50, 300), (90, 200))
    tried: list[int] = []

    def refuse(folder: Path) -> bool:
        tried.append(int(folder.name))
        return False

    evict(sizes, 100, NOW, spared=0.0, remove=refuse)
    assert tried == [1, 0]


def test_a_missing_folder_counts_as_the_least_recently_used(tmp_path: Path) -> None:
    sizes = made(tmp_path, (10, 400), (10, 300))
    (tmp_path / "1").rmdir()
    assert used_at(tmp_path / "1") == 0.0
    assert removed(sizes, 10) == [1]
