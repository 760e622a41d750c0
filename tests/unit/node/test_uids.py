from __future__ import annotations

import pytest

from rescoldo.model.errors import Busy
from rescoldo.node.instances.uids import Uids


def test_a_returned_uid_is_reused_only_after_all_others() -> None:
    uids = Uids(range(10, 14))
    first = uids.take()
    uids.give_back(first)
    assert [uids.take() for _ in range(4)] == [11, 12, 13, 10]


def test_no_uid_is_handed_out_twice() -> None:
    uids = Uids(range(10, 13))
    uids.adopt(11)
    assert {uids.take(), uids.take()} == {10, 12}
    with pytest.raises(Busy):
        uids.take()


def test_uids_of_adopted_instances_are_skipped() -> None:
    uids = Uids(range(10, 20))
    uids.adopt(13)
    assert uids.take() == 14


def test_a_uid_that_another_platform_uses_is_skipped() -> None:
    uids = Uids(range(10, 13), in_use=lambda uid: uid == 11)
    assert [uids.take(), uids.take()] == [10, 12]


def test_platforms_start_at_different_places_in_the_same_pool() -> None:
    pool = range(1000, 100_000)
    assert len({Uids(pool, f"/run/rescoldo/{number}").take() for number in range(20)}) == 20
