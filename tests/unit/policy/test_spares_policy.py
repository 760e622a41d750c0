"""How many spares are kept, and when they are made."""

import pytest

from rescoldo.policy.spares import HOLD, SPARE_MEMORY, WHEN_FEW, WHEN_MANY, Demand, most_spares, refill_pause

LEAST, MOST = 6, 400


@pytest.mark.parametrize(("ready", "pause"), [(0, WHEN_FEW), (3, WHEN_FEW), (4, WHEN_MANY), (20, WHEN_MANY)])
def test_the_first_spares_are_made_between_starts_and_the_others_when_it_is_quiet(ready: int, pause: float) -> None:
    assert refill_pause(ready) == pause


def burst(demand: Demand, starts: int, now: float) -> Demand:
    """Record `starts` starts, with no spare made meanwhile."""
    for number in range(starts):
        demand = demand.taken(now + number / 1000, starts)
    return demand


def test_without_wakes_the_pool_has_its_minimum() -> None:
    assert Demand().wanted(100.0, LEAST, MOST) == LEAST


def test_any_number_of_single_wakes_needs_only_the_minimum() -> None:
    demand = Demand()
    for second in range(1000):
        demand = demand.taken(float(second), 1).made()
    assert demand.wanted(1000.0, LEAST, MOST) == LEAST


def test_after_a_burst_the_pool_has_the_spares_that_it_lacked() -> None:
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


def test_steady_turnover_needs_only_a_few_spares_however_long_it_lasts() -> None:
    demand = Demand()
    for number in range(5000):  # four clients, each calling one sleeping function after another
        demand = demand.taken(number / 100, 4)
    assert demand.wanted(50.0, LEAST, MOST) == 8
    assert burst(demand.filled(), 200, 51.0).wanted(52.0, LEAST, MOST) == 200


def test_a_burst_counts_in_full_even_if_its_first_calls_end_before_the_last_arrive() -> None:
    demand = Demand()
    for number in range(500):
        demand = demand.taken(number / 250, 300)
    assert demand.wanted(3.0, LEAST, 10_000) == 500


def test_a_burst_is_forgotten_before_a_smaller_later_one() -> None:
    demand = burst(burst(Demand(), 300, 0.0).filled(), 50, 100.0)
    assert demand.wanted(HOLD, LEAST, MOST) == 300
    assert demand.wanted(HOLD + 1.0, LEAST, MOST) == 50
    assert demand.wanted(HOLD + 101.0, LEAST, MOST) == LEAST


def test_demand_that_a_full_pool_could_not_serve_does_not_add_up() -> None:
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


def test_memory_bounds_the_pool_but_never_below_its_minimum() -> None:
    assert most_spares(100 * SPARE_MEMORY, LEAST) == 100
    assert most_spares(0, LEAST) == LEAST
