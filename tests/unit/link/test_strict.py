"""A worker refuses documents with what its version does not know, and with nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rescoldo.link.protocol import Delivery
from rescoldo.link.wire import decode_delivery, encode_delivery
from rescoldo.model.deployed import Deployed
from rescoldo.model.errors import InvalidInput
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.revision import Revision
from rescoldo.model.standing import Standing

SPEC = FunctionSpec("fn", "some:image", labels={"com.openfaas.scale.min": "2"}, annotations={"theirs/x": "?"})
PAST = Revision(1, SPEC, "b" * 64, 1.0)
DOCUMENT = Deployed(Function(SPEC, "a" * 64, 1.0, revision=2, traffic={2: 60, 1: 40}), (PAST,), 3, Standing(True), 7)
PLACES = {
    "document": ("the function has", lambda found: found),
    "spec": ("the deployment has", lambda found: found["spec"]),
    "standing": ("the function's state has", lambda found: found["standing"]),
    "revision": ("a revision has", lambda found: found["revisions"][0]),
    "past spec": ("the deployment has", lambda found: found["revisions"][0]["spec"]),
}
SOMETHING = st.one_of(st.text(min_size=1), st.integers(1), st.just(True), st.lists(st.text(), min_size=1))


def sent(document: Deployed = DOCUMENT) -> dict[str, Any]:
    """A delivery as it arrives."""
    return dict(json.loads(json.dumps(encode_delivery(Delivery(document)))))


def test_what_this_version_writes_it_reads() -> None:
    assert decode_delivery(sent()) == Delivery(DOCUMENT)


@pytest.mark.parametrize("place", PLACES)
@given(value=SOMETHING)
def test_a_field_that_this_version_does_not_know_is_refused(place: str, value: object) -> None:
    said, where = PLACES[place]
    found = sent()
    where(found["document"])["maxTokens"] = value
    with pytest.raises(InvalidInput, match=f"{said} the field 'maxTokens'"):
        decode_delivery(found)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", [None, "", 0, False, [], {}])
def test_a_field_without_a_value_says_nothing(place: str, value: object) -> None:
    found = sent()
    PLACES[place][1](found["document"])["maxTokens"] = value
    assert decode_delivery(found) == Delivery(DOCUMENT)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"annotations": {"rescoldo.dev/gpu-share": "half"}}, "gpu-share: unknown annotation"),
        ({"annotations": {"rescoldo.dev/rollout": "by-moon"}}, "by-moon"),
        ({"labels": {"com.openfaas.scale.min": "a few"}}, "a few"),
        ({"limits": {"memory": "a lot"}}, "a lot"),
        ({"image": ""}, "image is required"),
    ],
)
@pytest.mark.parametrize("past", [False, True])
def test_a_value_that_this_version_does_not_know_is_refused(change: dict[str, Any], said: str, past: bool) -> None:
    spec = replace(SPEC, **change)
    document = replace(DOCUMENT, function=replace(DOCUMENT.function, spec=spec))
    if past:
        document = replace(DOCUMENT, revisions=(replace(PAST, spec=spec),))
    with pytest.raises(InvalidInput, match=said):
        decode_delivery(sent(document))


def test_a_past_revision_without_traffic_may_have_any_value() -> None:
    past = replace(PAST, spec=replace(SPEC, annotations={"rescoldo.dev/gpu-share": "half"}))
    document = replace(DOCUMENT, function=replace(DOCUMENT.function, traffic={}), revisions=(past,))
    assert decode_delivery(sent(document)).document == document
