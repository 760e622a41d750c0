"""Deciding how many spares are kept and when they are made."""

import pytest

from rescoldo.policy.spares import HOLD, SPARE_MEMORY, WHEN_FEW, WHEN_MANY, Demand, most_spares, refill_pause

LEAST, MOST = 6, 400


@pytest.mark.parametrize(("ready", "pause"), [(0, WHEN_FEW), (3, WHEN_FEW), (4, WHEN_MANY), (20, WHEN_MANY)])
def test_a_few_spares_are_made_between_two_starts_the_others_when_it_is_quiet(ready: int, pause: float) -> None:
    assert refill_pause(ready) == pause


def burst(demand: Demand, starts: int, now: float) -> Demand:
    """That many starts, and no spare made meanwhile."""
    for number in range(starts):
        demand = demand.taken(now + number / 1000, starts)
    return demand


def test_without_wakes_there_are_as_few_as_are_asked_for() -> None:
    assert Demand().wanted(100.0, LEAST, MOST) == LEAST


def test_single_wakes_need_no_more_than_the_least_however_many_they_are() -> None:
    demand = Demand()
    for second in range(1000):
        demand = demand.taken(float(second), 1).made()
    assert demand.wanted(1000.0, LEAST, MOST) == LEAST


def test_after_a_burst_there_are_as_many_as_it_needed_and_were_not_made_in_time() -> None:
    demand = burst(Demand(), 200, 50.0)
    assert demand.wanted(51.0, LEAST, MOST) == 200
    for _ in range(200):
        demand = demand.made()
    assert demand.wanted(60.0, LEAST, MOST) == 200


def test_spares_made_during_a_burst_count_against_it() -> None:
    demand = Demand()
    for number in range(300):
        demand = demand.taken(number / 100, 300)
        if number % 3 == 2:
            demand = demand.made().made()
    assert demand.wanted(3.0, LEAST, MOST) == 102


def test_steady_turnover_needs_no_more_than_a_few_however_long_it_goes_on() -> None:
    demand = Demand()
    for number in range(5000):  # four clients, each calls a sleeping function after another
        demand = demand.taken(number / 100, 4)
    assert demand.wanted(50.0, LEAST, MOST) == 8
    assert burst(demand.filled(), 200, 51.0).wanted(52.0, LEAST, MOST) == 200


def test_a_burst_of_which_some_have_served_before_the_last_come_is_known_whole() -> None:
    demand = Demand()
    for number in range(500):
        demand = demand.taken(number / 250, 300)
    assert demand.wanted(3.0, LEAST, 10_000) == 500


def test_a_burst_is_forgotten_and_a_smaller_later_one_still_known() -> None:
    demand = burst(burst(Demand(), 300, 0.0).filled(), 50, 100.0)
    assert demand.wanted(HOLD, LEAST, MOST) == 300
    assert demand.wanted(HOLD + 1.0, LEAST, MOST) == 50
    assert demand.wanted(HOLD + 101.0, LEAST, MOST) == LEAST


def test_what_a_pool_at_its_most_could_not_serve_does_not_add_up() -> None:
    demand = Demand()
    for number in range(10):
        demand = burst(demand, 500, 10.0 * number).filled()
    assert demand.wanted(100.0, LEAST, 10_000) == 500
    assert demand.wanted(100.0, LEAST, MOST) == MOST


def test_the_memory_of_demand_is_small() -> None:
    demand = Demand()
    for number in range(100):
        demand = burst(demand, 1 + number % 7 * 20, float(number)).filled()
    assert len(demand.peaks) <= 10


def test_memory_bounds_the_pool_but_never_below_what_is_asked_for() -> None:
    assert most_spares(100 * SPARE_MEMORY, LEAST) == 100
    assert most_spares(0, LEAST) == LEAST
