from __future__ import annotations

from rescoldo.policy.respawn import SHORTEST_LIFE, early_deaths, respawn_pause


def test_an_instance_that_lived_long_enough_resets_the_count_of_early_deaths() -> None:
    assert early_deaths(5, ready_at=10.0, ended_at=10.0 + SHORTEST_LIFE) == 1


def test_an_early_death_adds_to_the_count() -> None:
    assert early_deaths(5, ready_at=10.0, ended_at=10.0 + SHORTEST_LIFE - 0.01) == 6


def test_the_first_two_replacements_start_at_once_and_later_ones_with_growing_back_off() -> None:
    assert [respawn_pause(deaths) for deaths in range(1, 9)] == [0, 0, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    assert respawn_pause(10_000) == 2.0
