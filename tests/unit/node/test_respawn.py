from __future__ import annotations

from rescoldo.policy.respawn import SHORTEST_LIFE, replaces


def test_an_instance_that_lived_long_enough_is_replaced() -> None:
    assert replaces(ready_at=10.0, ended_at=10.0 + SHORTEST_LIFE)
    assert replaces(ready_at=10.0, ended_at=99.0)


def test_one_in_a_crash_loop_is_not() -> None:
    assert not replaces(ready_at=10.0, ended_at=10.0)
    assert not replaces(ready_at=10.0, ended_at=10.0 + SHORTEST_LIFE - 0.01)
