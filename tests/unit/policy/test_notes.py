"""Notes on settings that are accepted and have no effect."""

import pytest

from rescoldo.kinds.deployment import check_spec, notes_of
from rescoldo.model.function import FunctionSpec
from rescoldo.policy.notes import FULL, UNPRIVILEGED

PROGRAM = {"upstream_url": "http://127.0.0.1:8000"}


def spec(**fields) -> FunctionSpec:
    return FunctionSpec("hello", "hello:1", **fields)


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"annotations": {"schedule": "* * * * *"}}, "annotation schedule"),
        ({"annotations": {"topic": "payments"}}, "annotation topic"),
        ({"env_process": "cat"}, "fprocess"),
        ({"env_process": "python other.py"}, "fprocess"),
        ({"env_vars": {"fprocess": "cat"}}, "fprocess"),
        ({"env_vars": {"mode": "streaming"}}, "mode"),
        ({"limits": {"nvidia.com/gpu": "1"}}, "limits.nvidia.com/gpu"),
        ({"requests": {"cpu": "100m"}}, "requests"),
        ({"constraints": ("zone=eu",)}, "constraint 'zone=eu'"),
        ({"env_vars": {"read_timeout": "5m"}}, "environment read_timeout"),
        ({"env_vars": {"jwt_auth": "true"}}, "environment jwt_auth"),
        ({"labels": {"com.openfaas.scale.maximum": "3"}}, "label com.openfaas.scale.maximum"),
        ({"labels": {"rescoldo.dev/concurrency": "3"}}, "label rescoldo.dev/concurrency"),
        ({"annotations": {"com.openfaas.scale.min": "3"}}, "annotation com.openfaas.scale.min"),
        ({"annotations": {"com.openfaas.health.http.path": "/x"}}, "annotation com.openfaas.health.http.path"),
        (
            {"annotations": {"autoscaling.knative.dev/target-burst-capacity": "0"}},
            "annotation autoscaling.knative.dev/target-burst-capacity",
        ),
    ],
)
def test_a_setting_without_effect_has_a_note_that_names_it(fields, key):
    check_spec(spec(**fields))  # the setting is accepted
    (note,) = notes_of(spec(**fields), FULL)
    assert note.startswith(f"{key}: ") and not note.endswith(".")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"env_process": "python index.py", "env_vars": {"mode": "http", "exec_timeout": "5m"}},
        {"env_process": "node server.js", "env_vars": PROGRAM},
        {"limits": {"memory": "64Mi", "cpu": "500m"}, "read_only_root_filesystem": True},
        {"constraints": ("kubernetes.io/os=linux", "node.platform.os == linux")},
        {"labels": {"com.openfaas.scale.min": "1", "com.openfaas.scale.zero-duration": "5m", "team": "a"}},
        {"annotations": {"autoscaling.knative.dev/minScale": "1", "rescoldo.dev/grace": "1s", "mine": "x"}},
    ],
)
def test_a_setting_with_effect_has_no_note(fields):
    check_spec(spec(**fields))
    assert notes_of(spec(**fields), FULL) == []


def test_limits_at_the_unprivileged_level_have_notes():
    fields = {"limits": {"memory": "64Mi", "cpu": "1"}, "read_only_root_filesystem": True}
    told = notes_of(spec(**fields), UNPRIVILEGED)
    # memory has none: the node polls it (node/instances/memory_watch.py)
    assert [text.partition(":")[0] for text in told] == ["limits.cpu", "readonly_root_filesystem"]
    assert all("run the platform as root" in text for text in told)


def test_settings_that_are_refused_elsewhere_have_no_notes():
    assert notes_of(spec(limits={"memory": "lots"}, env_vars={"upstream_url": "ftp://x"}), FULL) == []
