from __future__ import annotations

from rescoldo.policy.respawn import SHORTEST_LIFE, early_deaths, respawn_pause


def test_an_instance_that_lived_long_enough_begins_a_new_row_of_deaths() -> None:
    assert early_deaths(5, ready_at=10.0, ended_at=10.0 + SHORTEST_LIFE) == 1


def test_one_that_died_young_adds_to_the_row() -> None:
    assert early_deaths(5, ready_at=10.0, ended_at=10.0 + SHORTEST_LIFE - 0.01) == 6


def test_the_first_two_replacements_start_at_once_and_later_ones_ever_later() -> None:
    assert [respawn_pause(deaths) for deaths in range(1, 9)] == [0, 0, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    assert respawn_pause(10_000) == 2.0
