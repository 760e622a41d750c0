"""How a function's keys and a platform's flags set its limits, and which values are refused."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rescoldo.kinds.deployment import check_spec, notes_of, policy_of
from rescoldo.model.errors import InvalidInput
from rescoldo.model.function import ANNOTATIONS, FunctionSpec
from rescoldo.model.limits import MAX_TIMEOUT, Limits, platform_limits


def limits(defaults: Limits | None = None, **spec: object) -> Limits:
    return check_spec(FunctionSpec("fn", "image", **spec), defaults or Limits()).limits  # type: ignore[arg-type]


def test_a_function_without_keys_has_the_platforms_limits() -> None:
    platform = Limits(3, 4, 5.0, 6, 7, 8 * 2**20, 9, 100, 2000)
    assert limits(platform) == platform
    assert limits() == Limits() == platform_limits({})


def test_every_key_sets_its_limit() -> None:
    notes = {"concurrency": "1", "max-queue": "2", "max-body": "3Ki", "max-response": "4Mi", "max-files": "65",
             "log-rate": "6Ki"}  # fmt: skip
    found = limits(
        annotations={f"rescoldo.dev/{key}": value for key, value in notes.items()},
        env_vars={"exec_timeout": "7s"},
        limits={"memory": "8Mi", "cpu": "900m"},
    )
    assert found == Limits(1, 2, 7.0, 3 * 2**10, 4 * 2**20, 8 * 2**20, 900, 65, 6 * 2**10)


@pytest.mark.parametrize(
    ("text", "memory", "cpu"), [("0", 0, 0), ("0.0001", 1, 1), ("0.5", 1, 500), ("1.005", 1, 1005), ("2.6", 3, 2600)]
)
def test_a_tiny_limit_is_not_rounded_to_zero_which_means_no_limit(text: str, memory: int, cpu: int) -> None:
    found = policy_of(FunctionSpec("fn", "image", limits={"memory": text, "cpu": text})).limits
    assert (found.memory, found.cpu) == (memory, cpu)


@pytest.mark.parametrize("key", sorted(ANNOTATIONS))
def test_each_of_our_annotations_is_read(key: str) -> None:
    with pytest.raises(InvalidInput, match=f"^rescoldo.dev/{key}: 'nonsense' is not"):
        limits(annotations={f"rescoldo.dev/{key}": "nonsense"})


@pytest.mark.parametrize("key", ["max-que", "Max-Queue", "", "max-queue "])
def test_an_unknown_annotation_with_our_prefix_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput, match=f"^rescoldo.dev/{key}: unknown annotation; .*max-queue"):
        limits(annotations={f"rescoldo.dev/{key}": "5"})
    limits(annotations={f"somebody.else/{key}": "5"})


def test_every_flag_sets_its_limit() -> None:
    values = {"concurrency": "0", "max-queue": "0", "max-body": "1", "max-response": "0", "max-files": "64",
              "log-rate": "1Ki", "timeout": "90", "memory": "0", "cpu": "0.5"}  # fmt: skip
    found = platform_limits({f"--default-{key}": value for key, value in values.items()})
    assert found == Limits(10_000, 0, 90.0, 1, 0, 0, 500, 64, 1024)


@pytest.mark.parametrize(
    ("notes", "env", "expected"),
    [
        ({}, {}, (32, 0)),
        ({"rescoldo.dev/concurrency": "0"}, {}, (10_000, 0)),
        ({}, {"max_inflight": "0"}, (10_000, 0)),
        ({}, {"max_inflight": "5"}, (5, 5)),
        ({}, {"max_inflight": " "}, (32, 0)),
        ({"rescoldo.dev/concurrency": "7"}, {"max_inflight": "5"}, (7, 0)),
        ({"rescoldo.dev/concurrency": " "}, {"max_inflight": "5"}, (5, 5)),
    ],
)
def test_the_annotation_overrides_max_inflight_and_0_is_unlimited(
    notes: dict[str, str], env: dict[str, str], expected: tuple[int, int]
) -> None:
    found = limits(annotations=notes, env_vars=env)
    assert (found.concurrency, found.max_inflight) == expected


NOTES = ("concurrency", "max-queue", "max-body", "max-response", "max-files", "log-rate", "ready-timeout", "grace",
         "idle-window")  # fmt: skip
# negative, huge, text, digits of other scripts (isdigit() accepts the last three), forms that only float() accepts
ODD = ("-1", "9" * 30, "9" * 5000, "many", "1e3", "0x10", "1_000", "١٢", "²", "１２", "nan", "inf", "1 0", "+5", "--")


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize("key", NOTES)
def test_an_invalid_value_is_refused_with_its_key_and_the_allowed_values(key: str, value: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        limits(annotations={f"rescoldo.dev/{key}": value})
    message = refused.value.message
    assert message.startswith(f"rescoldo.dev/{key}: '{value[:10]}")
    assert ("; use " in message or "; write for example " in message) and len(message) < 300


@pytest.mark.parametrize("text", ["0", "0s", "0ms", " 0 "])
def test_a_timeout_of_zero_is_the_longest_allowed(text: str) -> None:
    assert limits(env_vars={"exec_timeout": text}).exec_timeout == MAX_TIMEOUT
    assert platform_limits({"--default-timeout": text}).exec_timeout == MAX_TIMEOUT
    (note,) = notes_of(FunctionSpec("fn", "image", env_vars={"exec_timeout": text}), "full")
    assert note.startswith("environment exec_timeout: 0 ") and "24 h" in note


@pytest.mark.parametrize("text", ["9ms", "24h1s"])
def test_a_timeout_out_of_range_is_refused_and_the_message_explains_zero(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"exec_timeout: .*0.01s to 86400s, or 0 for 86400s"):
        limits(env_vars={"exec_timeout": text})


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize("key", ["exec_timeout", "max_inflight", "memory", "cpu", "scale.min"])
def test_invalid_values_of_variables_labels_and_resources_are_refused(key: str, value: str) -> None:
    places = {
        "exec_timeout": {"env_vars": {key: value}},
        "max_inflight": {"env_vars": {key: value}},
        "memory": {"limits": {key: value}},
        "cpu": {"limits": {key: value}},
        "scale.min": {"labels": {f"com.openfaas.{key}": value}},
    }
    with pytest.raises(InvalidInput, match=key):
        limits(**places[key])


@pytest.mark.parametrize(
    ("key", "least", "most", "below", "above"),
    [
        ("concurrency", "0", "10000", "-1", "10001"),
        ("max-queue", "0", "100000", "-1", "100001"),
        ("max-body", "1", "512Mi", "0", "513Mi"),
        ("max-response", "0", "1024Gi", "-1", "1025Gi"),
        ("max-files", "64", "1048576", "63", "1048577"),
        ("log-rate", "1Ki", "16Mi", "1023", "17Mi"),
    ],
)
def test_the_ends_of_each_range_are_allowed_and_values_beyond_are_not(
    key: str, least: str, most: str, below: str, above: str
) -> None:
    for value in (least, most):
        limits(annotations={f"rescoldo.dev/{key}": value})
        platform_limits({f"--default-{key}": value})
    for value in (below, above):
        with pytest.raises(InvalidInput, match=f"rescoldo.dev/{key}"):
            limits(annotations={f"rescoldo.dev/{key}": value})
        with pytest.raises(InvalidInput, match=f"--default-{key}"):
            platform_limits({f"--default-{key}": value})


@given(st.sampled_from(NOTES), st.text(max_size=40))
def test_any_text_of_an_annotation_is_parsed_or_refused(key: str, value: str) -> None:
    try:
        found = limits(annotations={f"rescoldo.dev/{key}": value})
    except InvalidInput as error:
        assert key in error.message
    else:
        assert all(getattr(found, field.name) >= 0 for field in fields(found))


@pytest.mark.parametrize(("memory", "least"), [("1", "8Mi"), ("4Mi", "8Mi"), ("8388607", "8Mi")])
def test_too_little_memory_to_start_is_refused_with_the_least_that_works(memory: str, least: str) -> None:
    with pytest.raises(InvalidInput, match=f"limits.memory: .* use {least} or more"):
        check_spec(FunctionSpec("fn", "image", limits={"memory": memory}))
    with pytest.raises(InvalidInput, match=f"--default-memory: .* use {least} or more"):
        platform_limits({"--default-memory": memory})
    for enough in (least, "0"):
        check_spec(FunctionSpec("fn", "image", limits={"memory": enough}))


def test_a_program_may_have_less_memory_than_a_handler() -> None:
    program = FunctionSpec("fn", "image", env_process="./server", env_vars={"upstream_url": "inherited"})
    check_spec(replace(program, limits={"memory": "2Mi"}))
    with pytest.raises(InvalidInput, match="use 2Mi or more"):
        check_spec(replace(program, limits={"memory": "1Mi"}))
