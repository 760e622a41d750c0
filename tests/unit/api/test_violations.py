"""Violations in a body get messages of our own, whatever the library's version says."""

from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from rescoldo.api.bodies import AlertsBody, FunctionDeployment, ScaleFunction, SecretBody
from rescoldo.api.revisions import Rollback, Traffic
from rescoldo.model.violations import describe
from rescoldo.stack.store import StoreFunction, StoreTemplate

TAKEN = (
    FunctionDeployment,
    ScaleFunction,
    SecretBody,
    AlertsBody,
    Rollback,
    Traffic,
    StoreFunction,
    StoreTemplate,
)
WRONG: list[Any] = [
    None,
    True,
    1.5,
    10**5000,
    -1,
    "x",
    "\ud800",
    ["x"],
    [None],
    [[1]],
    {"x": "y"},
    {"x": None},
    {"x": {}},
]


def violations(kind: Any, value: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    return describe(caught.value.errors(include_url=False, include_input=False))


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (str, 1, "expected text"),
        (int, "x", "expected a whole number"),
        (Annotated[int, Field(ge=3)], 2, "expected at least 3"),
        (Annotated[list[int], Field(max_length=1)], [1, 2], "has more than the 1 entries allowed"),
        (dict[str, int], {"a": "x", "b": None}, "a: expected a whole number; b: expected a whole number"),
        (FunctionDeployment, {"labels": 1}, "service: is missing; image: is missing; labels: expected an object"),
    ],
)
def test_each_violation_has_its_place_and_the_allowed_values(kind: Any, value: Any, said: str) -> None:
    assert violations(kind, value) == said


@pytest.mark.parametrize(
    ("detail", "said"),
    [("trailing comma at line 1 column 20", "not valid JSON (line 1 column 20)"), ("broken", "not valid JSON")],
)
def test_invalid_json_has_its_position_if_the_library_gives_one(detail: str, said: str) -> None:
    assert describe([{"type": "json_invalid", "loc": (), "msg": "?", "ctx": {"error": detail}}]) == said


@pytest.mark.parametrize("model", TAKEN, ids=lambda model: model.__name__)
def test_no_message_of_the_library_reaches_a_user(model: Any) -> None:
    fields = [field.alias or name for name, field in model.model_fields.items()]
    for value in WRONG:
        for body in (value, dict.fromkeys(fields, value)):
            try:
                TypeAdapter(model).validate_python(body)
            except ValidationError as error:
                found = error.errors(include_url=False, include_input=False)
                said = describe(found)
                assert [one["msg"] for one in found if one["msg"] in said] == []
