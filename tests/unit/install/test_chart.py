"""The chart renders to what `manifests` prints, by the real Helm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rescoldo.install.chart import write_chart
from rescoldo.install.reading import read_values, set_values
from rescoldo.install.rendering import render
from rescoldo.install.stages import stages
from rescoldo.install.values import Values
from support.helm import BUILD_SECONDS, KUBERNETES, helm, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(BUILD_SECONDS + 60)]
EVERYTHING = Path(__file__).with_name("everything.yaml")
DEFAULTS = Values(image="registry.example.com/rescoldo:1")


@pytest.fixture(scope="module")
def program() -> Path:
    found = helm()
    if found is None:
        pytest.skip("Helm is not here, and the Go module proxy or a Go compiler neither")
    return found


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chart")
    write_chart(folder, DEFAULTS)
    return folder


def by_name(objects: list[dict[str, Any]]) -> dict[tuple[str, str, str], Any]:
    found = {(o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): o for o in objects}
    assert len(found) == len(objects)
    return found


def manifests(values: Values) -> dict[tuple[str, str, str], Any]:
    return by_name([obj for stage in stages() if stage.in_chart for obj in render(stage.objects, values)])


def rendered(program: Path, chart: Path, *flags: str) -> dict[tuple[str, str, str], Any]:
    done = run(program, "template", "r", str(chart), "-n", "rescoldo", "--kube-version", KUBERNETES, *flags)
    assert done.returncode == 0, done.stderr
    return by_name([obj for obj in yaml.safe_load_all(done.stdout) if obj])


def test_the_chart_renders_to_the_manifests(program: Path, chart: Path) -> None:
    assert rendered(program, chart) == manifests(DEFAULTS)


def test_so_it_does_with_every_value_changed(program: Path, chart: Path) -> None:
    changed = read_values(DEFAULTS, EVERYTHING)
    found = rendered(program, chart, "-f", str(EVERYTHING))
    assert found == manifests(changed)
    assert found["Deployment", "blue", "rescoldo-worker"]["spec"]["replicas"] == 7
    assert found["Deployment", "openfaas-fn", "rescoldo-worker"]["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    "setting",
    [
        "networkPolicies.enabled=false",
        "disruptionBudgets=false",
        "createNamespaces=false",
        "control.storage.persistent=false",
        "gateway.service.type=LoadBalancer",
    ],
)
def test_so_it_does_with_single_settings(program: Path, chart: Path, setting: str) -> None:
    assert rendered(program, chart, "--set", setting) == manifests(set_values(DEFAULTS, [setting]))


@pytest.mark.parametrize(
    "setting, told",
    [
        ("image=", "image"),
        ("wroker.replicas=3", "wroker"),
        ("worker.isolation=full", "hostUsers"),
        ("worker.isolation=none", "isolation"),
        ("functionNamespaces={blue}", "openfaas-fn"),
        ("gateway.replicas=0", "replicas"),
        ("worker.replicas=many", "replicas"),
        ("worker.replicasIn.blue=0", "replicasIn"),
    ],
)
def test_helm_refuses_what_no_installation_can_have(program: Path, chart: Path, setting: str, told: str) -> None:
    done = run(program, "template", "r", str(chart), "--kube-version", KUBERNETES, "--set", setting)
    assert done.returncode == 1
    assert told in done.stderr


def test_helm_finds_nothing_to_criticize(program: Path, chart: Path) -> None:
    done = run(program, "lint", "--strict", str(chart))
    assert (done.returncode, "[WARNING]" in done.stdout) == (0, False), done.stdout
