"""rescoldo is installed, upgraded and removed in a real cluster, by its own command and by Helm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rescoldo.install.chart import write_chart
from rescoldo.install.reading import read_values
from rescoldo.install.rendering import render
from rescoldo.install.stages import stages
from rescoldo.install.values import Values
from rescoldo.model.names import DEFAULT_NAMESPACE
from support.helm import BUILD_SECONDS, helm, run
from support.installations import WAIT, Installer, is_installed
from support.testcluster import KUBECONFIG, KubectlFailed, get, kubectl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def installer(image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installer]:
    """Who installs; at the end nothing of it is left."""
    if is_installed():
        pytest.skip("the cluster has an installation already")
    found = Installer(tmp_path_factory.mktemp("home"))
    yield found
    found.uninstall()


@pytest.fixture(scope="module")
def installed(installer: Installer) -> dict[str, Any]:
    """What the first installation told."""
    return installer.install()


def allowed(account: str, verb: str, resource: str, namespace: str) -> bool:
    """Whether a service account (NAMESPACE:NAME) may do something."""
    try:
        answer = kubectl("auth", "can-i", verb, resource, "-n", namespace, "--as", f"system:serviceaccount:{account}")
    except KubectlFailed as error:
        answer = str(error)
    return answer.strip().startswith("yes")


@pytest.mark.parametrize("name", ["rescoldo-control", "rescoldo-gateway", "rescoldo-worker"])
def test_pods_are_admitted_where_pod_security_is_restricted(namespaces: tuple[str, str], name: str) -> None:
    namespace = namespaces[0]
    kubectl("label", "namespace", namespace, "--overwrite", "pod-security.kubernetes.io/enforce=restricted")
    values = Values(image="rescoldo:1")
    objects = [obj for stage in stages() for obj in render(stage.objects, values)]
    (found,) = [o for o in objects if (o["kind"], o["metadata"]["name"]) == ("Deployment", name)]
    spec = {**found["spec"]["template"]["spec"], "serviceAccountName": "default"}
    meta = {"name": name, "namespace": namespace}
    kubectl(
        *("create", "--dry-run=server", "-f", "-"),
        stdin=json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}),
    )


def test_a_function_answers_through_a_new_installation(installed: dict[str, Any]) -> None:
    assert installed["probe"]["answer"] == "awake"
    states = {each["object"]: each["state"] for each in installed["objects"] if each["object"].startswith("deployment")}
    assert len(states) == 3 and set(states.values()) == {"created"}
    assert installed["gateway"].startswith("http://")


def test_all_parts_are_ready_and_the_gateway_is_found(installer: Installer, installed: dict[str, Any]) -> None:
    status, out, err = installer.run("status", "--login", "--json")
    assert status == 0, err
    told = json.loads(out)
    assert {part["component"]: part["ready"] for part in told["parts"]} == {"control": 1, "gateway": 2, "worker": 2}
    assert told["gateway"] == installed["gateway"]


def test_doing_it_again_changes_nothing(installer: Installer, installed: dict[str, Any]) -> None:
    again = installer.install("--no-probe")
    states = {each["object"]: each["state"] for each in again["objects"]}
    assert {name for name, state in states.items() if state != "unchanged"} == set()


def test_other_values_are_an_upgrade(installer: Installer, installed: dict[str, Any]) -> None:
    upgraded = installer.install("--workers", "3", "--set", "gateway.service.type=ClusterIP", "--no-probe")
    changed = {each["object"] for each in upgraded["objects"] if each["state"] == "changed"}
    assert changed == {
        f"deployment {DEFAULT_NAMESPACE}/rescoldo-worker",
        f"service {installer.system}/rescoldo-gateway",
    }
    assert upgraded["gateway"] is None  # reached by a port that was forwarded
    assert get("deployment", "rescoldo-worker", "-n", DEFAULT_NAMESPACE)["status"]["readyReplicas"] == 3
    installer.install("--no-probe")


def test_each_part_may_do_what_it_needs_and_no_more(installer: Installer, installed: dict[str, Any]) -> None:
    control, gateway = (f"{installer.system}:rescoldo-{part}" for part in ("control", "gateway"))
    worker = f"{DEFAULT_NAMESPACE}:rescoldo-worker"
    assert allowed(control, "patch", "functions/status.rescoldo.dev", DEFAULT_NAMESPACE)
    assert allowed(control, "create", "secrets", DEFAULT_NAMESPACE)
    assert not allowed(control, "get", "secrets", "kube-system")
    assert allowed(control, "create", "pods", DEFAULT_NAMESPACE), "those of builds"
    assert not allowed(control, "patch", "pods", DEFAULT_NAMESPACE)
    assert not allowed(control, "create", "pods", installer.system)
    assert allowed(gateway, "watch", "pods", DEFAULT_NAMESPACE)
    assert not allowed(gateway, "get", "secrets", installer.system)
    assert not allowed(gateway, "list", "pods", "kube-system")
    assert not allowed(worker, "get", "functions.rescoldo.dev", DEFAULT_NAMESPACE)
    assert not allowed(worker, "list", "pods", DEFAULT_NAMESPACE)


def test_an_image_that_is_not_there_is_told_with_the_remedy(installer: Installer, installed: dict[str, Any]) -> None:
    flags = ("--values", str(installer.values), "--image", "rescoldo:missing", "--timeout", "20s")
    status, _, err = installer.run("install", *flags)
    assert status == 1
    assert "ErrImageNeverPull" in err and "rescoldo kubernetes image --load" in err
    installer.install("--no-probe")


def test_functions_outlive_a_removal_that_keeps_them(installer: Installer, installed: dict[str, Any]) -> None:
    function = {
        "apiVersion": "rescoldo.dev/v1",
        "kind": "Function",
        "metadata": {"name": "stays", "namespace": DEFAULT_NAMESPACE, "finalizers": ["rescoldo.dev/test"]},
        "spec": {"image": "stays:1"},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(function))
    told = installer.uninstall("--keep-functions")
    assert f"function {DEFAULT_NAMESPACE}/stays: functions are kept" in told["kept"]
    assert "finalizers" not in get("functions.rescoldo.dev", "stays", "-n", DEFAULT_NAMESPACE)["metadata"]
    assert installer.run("status")[0] == 1


def test_a_removal_leaves_nothing(installer: Installer, installed: dict[str, Any]) -> None:
    installer.install("--no-probe")
    told = installer.uninstall()
    assert told["kept"] == []
    everything = "namespaces,clusterroles,clusterrolebindings,customresourcedefinitions"
    left = [item["metadata"]["name"] for item in get(everything)["items"]]
    assert [name for name in left if "rescoldo" in name or name == DEFAULT_NAMESPACE] == []


@pytest.mark.timeout(BUILD_SECONDS + 400)
def test_helm_installs_the_same(installer: Installer, tmp_path: Path) -> None:
    program = helm()
    if program is None:
        pytest.skip("Helm is not here, and the Go module proxy or a Go compiler neither")
    installer.uninstall()
    write_chart(tmp_path / "chart", read_values(Values(), installer.values))
    at = ("--namespace", installer.system, "--kubeconfig", str(KUBECONFIG))
    done = run(
        program, "install", "faas", str(tmp_path / "chart"), *at, "--create-namespace", "--wait", "--timeout", WAIT
    )
    assert done.returncode == 0, done.stderr
    assert installer.run("status")[0] == 0
    status, _, err = installer.run("install", "--values", str(installer.values))
    assert status == 1 and "Helm's release faas has it" in err
    done = run(program, "uninstall", "faas", *at, "--wait")
    assert done.returncode == 0, done.stderr
    assert get("customresourcedefinitions", "functions.rescoldo.dev")  # functions are kept
    kubectl("delete", "namespace", installer.system)
