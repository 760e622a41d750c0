"""Values are read from files and settings, and what no installation can have is refused with its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from rescoldo.install.reading import read_values, set_values
from rescoldo.install.rendering import key_of, table_of
from rescoldo.install.schema import values_file
from rescoldo.install.values import Values
from rescoldo.model.errors import InvalidInput

VALUES = Values(image="rescoldo:1")


def test_the_file_of_all_values_reads_back_to_them(tmp_path: Path) -> None:
    changed = set_values(VALUES, ["worker.replicas=3", "worker.pod.nodeSelector={a: 'true', b: '1'}", "runAsUser=7"])
    file = tmp_path / "values.yaml"
    file.write_text(values_file(changed))
    assert table_of(read_values(Values(), file)) == table_of(changed)


def test_every_value_has_its_comment_in_the_file() -> None:
    lines = values_file(VALUES).splitlines()
    keys = [i for i, line in enumerate(lines) if line.strip().partition(":")[0] in ("image", "minReadySeconds", "pod")]
    assert len(keys) == 6
    assert all(lines[i - 1].strip().startswith("# ") for i in keys)


def test_the_file_has_what_the_values_have() -> None:
    found = yaml.safe_load(values_file(VALUES))
    assert found == {key: value for key, value in table_of(VALUES).items() if key != "namespace"}


@pytest.mark.parametrize("name, key", [("min_ready_seconds", "minReadySeconds"), ("cluster_ip", "clusterIP"),
                                       ("image", "image")])  # fmt: skip
def test_keys_are_in_camel_case(name: str, key: str) -> None:
    assert key_of(name) == key


def test_types_are_kept_where_kubernetes_reads_them() -> None:
    found = set_values(VALUES, ["gateway.pod.tolerations=[{key: a, tolerationSeconds: 60, effect: NoExecute}]"])
    assert found.gateway.pod.tolerations == [{"key": "a", "tolerationSeconds": 60, "effect": "NoExecute"}]


@pytest.mark.parametrize(
    "text, told",
    [
        ("worker: {replica: 3}", "values.yaml:1: worker: unknown key (did you mean 'replicas'?)"),
        ("image: a\nworker:\n  replicas: many", "values.yaml:3: worker.replicas: 'many' is not allowed"),
        ("worker: {hostUsers: maybe}", "values.yaml:1: worker.hostUsers: 'maybe' is not allowed; use true or false"),
        ("worker: {isolation: none}", "'none' is not allowed; use one of unprivileged, full"),
        ("namespace: a", "unknown key"),
        ("functionNamespaces: openfaas-fn", "expected a list"),
        ("worker: {pod: {tolerations: [!!python/name:os.system x]}}", "worker.pod.tolerations: is neither text"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInput) as found:
        read_values(VALUES, file)
    assert told in found.value.message and "values.yaml" in found.value.message


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("# nothing\n")
    assert read_values(VALUES, file) == VALUES
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_values(VALUES, tmp_path / "missing.yaml")


@pytest.mark.parametrize("setting", ["worker.replicas", "worker.replcas=3", "worker.replicas=x", "worker=3", "=3"])
def test_a_wrong_setting_is_refused_by_its_text(setting: str) -> None:
    with pytest.raises(InvalidInput, match="--set"):
        set_values(VALUES, [setting])


@pytest.mark.parametrize(
    "setting, told",
    [
        ("image=''", "image: give rescoldo's image"),
        ("functionNamespaces=[]", "the first one is openfaas-fn"),
        ("functionNamespaces=[blue]", "the first one is openfaas-fn"),
        ("functionNamespaces=[openfaas-fn, blue, blue]", "one is given twice"),
        ("functionNamespaces=[openfaas-fn, rescoldo]", "has gateways and control"),
        ("functionNamespaces=[openfaas-fn, Blue]", "namespace name 'Blue' is not valid"),
        ("gateway.replicas=0", "gateway.replicas"),
        ("worker.replicas=0", "worker.replicas"),
        ("worker.replicasIn={openfaas-fn: 0}", "worker.replicasIn: use 1 or more"),
        ("worker.replicasIn={blue: 2}", "worker.replicasIn: blue: not among functionNamespaces"),
        ("worker.isolation=full", "needs worker.hostUsers: false"),
        ("worker.drainSeconds=60", "drainTimeoutSeconds"),
    ],
)
def test_what_no_installation_can_have_is_refused(setting: str, told: str) -> None:
    with pytest.raises(InvalidInput) as found:
        set_values(VALUES, [setting]).check()
    assert told in found.value.message


def test_the_defaults_need_an_image_alone() -> None:
    VALUES.check()
    replace(VALUES, namespace="another").check()
