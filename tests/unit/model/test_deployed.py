"""One function's document: which revisions it keeps, and its form in JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rescoldo.model.deployed import Deployed, from_json, to_json
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.revision import Revision
from rescoldo.model.standing import Standing

ECHO = Function(FunctionSpec("echo", "me/echo:1"), "a" * 64, 1.0, revision=1, revised_at=1.0)


def numbers(deployed: Deployed) -> list[int]:
    return [one.number for one in deployed.revisions]


def test_a_replaced_revision_becomes_a_past_one_and_the_last_ones_stay() -> None:
    deployed = Deployed(ECHO)
    for number in range(2, 6):
        deployed = deployed.serving(replace(ECHO, revision=number, revised_at=float(number)), keep=3, standing=None)
    assert deployed.function.revision == 5
    assert numbers(deployed) == [4, 3], "three, the current one included"
    assert deployed.revisions[0] == Revision(4, ECHO.spec, ECHO.digest, 4.0)


def test_another_state_of_the_same_revision_adds_no_past_one() -> None:
    deployed = Deployed(ECHO).serving(replace(ECHO, traffic={1: 100}), keep=3, standing=Standing(paused=True))
    assert (deployed.revisions, deployed.standing, deployed.function.traffic) == ((), Standing(paused=True), {1: 100})


def test_failed_revisions_have_a_limit_of_their_own() -> None:
    deployed = Deployed(replace(ECHO, revision=9))
    for number in range(2, 6):
        deployed = deployed.failed(Revision(number, ECHO.spec, ECHO.digest, 1.0, failure="no"), keep=2)
    deployed = deployed.serving(replace(ECHO, revision=10), keep=2, standing=None)
    assert numbers(deployed) == [9, 5, 4]


def test_only_the_current_one_stays_if_no_more_are_wanted() -> None:
    assert numbers(Deployed(ECHO).serving(replace(ECHO, revision=2), keep=1, standing=None)) == []


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
tables = st.dictionaries(texts, texts, max_size=3)
specs = st.builds(
    FunctionSpec, name=st.just("echo"), image=texts.filter(bool), env_process=texts, env_vars=tables, labels=tables,
    annotations=tables, constraints=st.lists(texts, max_size=2).map(tuple),
    secrets=st.lists(texts, max_size=2).map(tuple), limits=tables, requests=tables,
    read_only_root_filesystem=st.booleans(),
)  # fmt: skip
whole = st.integers(0, 2**53)
times = st.floats(0, 2e9)
functions = st.builds(
    Function, spec=specs, digest=texts, created_at=times, revision=whole, revised_at=times, generation=whole,
    traffic=st.dictionaries(whole, st.integers(0, 100), max_size=3),
)  # fmt: skip
revisions = st.builds(Revision, number=whole, spec=specs, digest=texts, created_at=times, failure=texts)
standings = st.builds(Standing, paused=st.booleans(), untried=st.booleans(), failure=texts)
documents = st.builds(
    Deployed, function=functions, revisions=st.lists(revisions, max_size=3).map(tuple), requested=whole,
    standing=standings, version=whole,
)  # fmt: skip


@given(documents)
def test_a_document_is_the_same_after_its_way_through_json(deployed: Deployed) -> None:
    assert from_json(json.loads(json.dumps(to_json(deployed)))) == deployed


@pytest.mark.parametrize("damage", ["spec", "digest", "revisions", "standing", "version"])
def test_a_document_without_a_part_is_refused(damage: str) -> None:
    found = to_json(Deployed(ECHO))
    del found[damage]
    with pytest.raises(KeyError):
        from_json(found)
