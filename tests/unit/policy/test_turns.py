"""In which order waiting starts get their turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rescoldo.policy.turns import Turns

FUNCTIONS = st.sampled_from(["a", "b", "c", "d"])
# what happens one after another: a start of a function comes, or a turn is given (None)
EVENTS = st.lists(st.one_of(FUNCTIONS, st.none()), max_size=200)


def waiting(*functions: str) -> Turns[str]:
    """One start for each name, in this order, named "a0", "a1", ... by function."""
    turns: Turns[str] = Turns()
    for place, function in enumerate(functions):
        turns.add(function, f"{function}{functions[:place].count(function)}")
    return turns


def all_of(turns: Turns[str]) -> list[str]:
    return [turns.take() for _ in range(len(turns))]


def test_turns_go_to_the_newest_and_to_the_oldest_in_alternation() -> None:
    assert all_of(waiting("a", "b", "c", "d", "e")) == ["e0", "a0", "d0", "b0", "c0"]


def test_one_that_comes_while_200_wait_gets_the_first_or_the_second_turn() -> None:
    turns = waiting(*(f"other-{number}-" for number in range(200)))
    for number in range(100):
        turns.add("late", f"late{number}")
        assert f"late{number}" in {turns.take(), turns.take()}


def test_one_function_that_wants_many_instances_does_not_keep_the_first_of_others_waiting() -> None:
    turns = waiting("other", *("many" for _ in range(50)))
    assert {turns.take(), turns.take()} == {"many0", "other0"}
    assert [turns.take() for _ in range(4)] == ["many49", "many1", "many48", "many2"]


def test_a_function_whose_starts_all_got_their_turns_is_as_good_as_a_new_one() -> None:
    turns = waiting("a", "b")
    assert all_of(turns) == ["b0", "a0"]
    turns.add("b", "b1")
    turns.add("a", "a1")
    turns.add("a", "a2")
    assert all_of(turns) == ["a1", "b1", "a2"]


def test_without_a_waiting_start_there_is_no_turn_to_give() -> None:
    with pytest.raises(KeyError):
        waiting().take()


@given(EVENTS)
def test_each_start_gets_a_turn_within_twice_those_ahead_of_it_and_two_more(events: list[str | None]) -> None:
    turns: Turns[int] = Turns()
    latest: dict[int, int] = {}  # the last turn that a start may get, by its number
    given_turns = 0
    for number, function in enumerate([*events, *[None] * len(events)]):
        if function is not None:
            latest[number] = given_turns + 2 * len(turns) + 2
            turns.add(function, number)
        elif len(turns):
            given_turns += 1
            assert given_turns <= latest.pop(turns.take())
    assert not latest
    assert not turns
