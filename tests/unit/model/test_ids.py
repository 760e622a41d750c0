from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rescoldo.model.ids import LEAST, USUAL, Ids, choose

MACHINE = "         0          0 4294967295\n"
POD = "         0 2292842496      65536\n"  # Kubernetes with hostUsers: false
ROOTLESS = "         0       1000          1\n         1     100000      65536\n"


def blocks(ids: Ids) -> list[range]:
    return [range(ids.edge, ids.build + 1), ids.instances, ids.bundles, ids.layers]


def overlap(one: range, two: range) -> bool:
    return max(one.start, two.start) < min(one.stop, two.stop)


def test_on_a_machine_the_ids_are_the_usual_ones() -> None:
    assert choose(MACHINE, MACHINE) == USUAL


def test_a_map_in_several_lines_is_one_block() -> None:
    middle = f"{USUAL.edge} {USUAL.edge} {2_000_000_000 - USUAL.edge}\n"
    lines = f"2000000000 2000000000 2294967295\n0 0 {USUAL.edge}\n{middle}"
    assert choose(lines, lines) == USUAL


@pytest.mark.parametrize("text", [POD, ROOTLESS])
def test_in_a_user_namespace_they_are_between_people_and_the_highest_users_of_images(text: str) -> None:
    ids = Ids(20_000, 20_001, range(20_002, 60_000), range(20_002, 52_000), range(52_000, 60_000))
    assert choose(text, text) == ids


def test_ids_above_those_of_containers_are_preferred_where_more_of_them_are_mapped() -> None:
    text = "0 100000 165536\n"
    groups = range(65_538, 145_536), range(145_536, 165_536)
    assert choose(text, text) == Ids(65_536, 65_537, range(65_538, 164_538), *groups)


def test_a_range_is_never_larger_than_the_usual_one() -> None:
    text = f"0 100000 {USUAL.edge}\n"
    ids = choose(text, text)
    assert ids is not None
    assert [len(one) for one in (ids.instances, ids.bundles, ids.layers)] == [99_000, 1_000_000, 1_000_000]


def test_an_id_must_be_mapped_as_uid_and_as_gid() -> None:
    ids = choose(POD, "0 5000 30000\n")
    assert ids is not None and (ids.edge, ids.instances.stop) == (20_000, 30_000)
    assert choose(POD, "0 5000 20000\n") is None


@pytest.mark.parametrize("text", ["", "0 1000 1\n", "0 0 20000\n", f"0 0 {20_000 + LEAST - 1}\n", "59500 0 6036\n"])
def test_a_map_without_a_thousand_free_ids_is_too_small(text: str) -> None:
    assert choose(text, text) is None


def test_a_thousand_free_ids_are_enough() -> None:
    ids = choose(f"0 0 {20_000 + LEAST}\n", MACHINE)
    assert ids is not None and (ids.edge, ids.instances.stop, ids.layers.stop) == (20_000, 21_000, 21_000)


@given(st.lists(st.tuples(st.integers(0, 200_000), st.integers(1, 200_000)), max_size=4))
def test_the_ids_are_mapped_and_nobody_elses(lines: list[tuple[int, int]]) -> None:
    text = "".join(f"{inside} 0 {count}\n" for inside, count in lines)
    if (ids := choose(text, text)) is None:
        return
    edges, instances, bundles, layers = found = blocks(ids)
    ends = [one for block in found for one in (block[0], block[-1])]  # raises IndexError for an empty one
    assert all(any(inside <= one < inside + count for inside, count in lines) for one in ends)
    assert not any(overlap(block, taken) for block in found for taken in (range(20_000), range(60_000, 65_536)))
    assert not any(overlap(edges, block) for block in (instances, bundles, layers)) and not overlap(bundles, layers)
