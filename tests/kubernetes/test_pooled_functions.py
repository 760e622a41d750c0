"""Functions that workers run: deployed by the API and by kubectl, woken through the gateway, kept through losses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.gateway import HELLO, TOKEN
from support.installed import WORKERS, Installed
from support.load import Load
from support.testcluster import KubectlFailed, apply, kubectl

pytestmark = pytest.mark.slow

TELLS = (
    "import os, pathlib\n"
    "def handle(event, context):\n"
    "    secret = pathlib.Path(os.environ['secret_mount_path'], 'word').read_text()\n"
    "    return f\"{os.environ['greeting']} {secret}\"\n"
)
BROKEN = "raise RuntimeError('no such module')\ndef handle(event, context):\n    return 'x'\n"


@pytest.fixture(scope="module")
def cell(installed: Installed) -> Installed:
    return installed


def function(name: str, image: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "rescoldo.dev/v1",
        "kind": "Function",
        "metadata": {"name": name, "namespace": "openfaas-fn"},
        "spec": {"image": image, **spec},
    }


def test_a_function_wakes_with_its_environment_and_its_secret(cell: Installed) -> None:
    assert cell.system("POST", "/secrets", {"name": "word", "value": "sesame"}).status == 202
    cell.deploy("tells", TELLS, secrets=["word"], envVars={"greeting": "hello"})
    cold = cell.invoke("tells")
    assert (cold.status, cold.text) == (200, "hello sesame"), cell.log()
    assert cold.cold
    assert "tells" in [one["name"] for one in json.loads(cell.system("GET", "/functions").text)]


def test_a_changed_secret_reaches_instances_whoever_changes_it(cell: Installed) -> None:
    assert cell.system("PUT", "/secrets", {"name": "word", "value": "open"}).status == 202
    cell.until(lambda: cell.invoke("tells").text == "hello open", "the changed value")
    kubectl("patch", "secret", "word", "-n", "openfaas-fn", "-p", '{"stringData": {"value": "shut"}}')
    cell.until(lambda: cell.invoke("tells").text == "hello shut", "the value that kubectl changed")


def test_a_revision_that_does_not_start_takes_no_traffic(cell: Installed) -> None:
    cell.deploy("checked", HELLO)
    assert cell.invoke("checked").text == "hello"
    cell.upload("checked:broken", BROKEN)
    answer = cell.system("POST", "/functions", {"service": "checked", "image": "checked:broken"})
    assert answer.status >= 400
    assert "no such module" in answer.text
    assert cell.invoke("checked").text == "hello"
    states = [one["state"] for one in json.loads(cell.system("GET", "/function/checked/revisions").text)]
    assert states == ["failed", "serving"]


def test_the_api_sees_what_the_owner_knows(cell: Installed) -> None:
    cell.deploy("seen", "def handle(event, context):\n    print('a line')\n    return 'x'\n")
    for _ in range(3):
        assert cell.invoke("seen").status == 200
    assert cell.replicas("seen") == 1
    cell.until(lambda: cell.invocations("seen") == 3, "three calls")
    assert cell.function_log("seen").splitlines().count("a line") == 3
    assert cell.system("POST", "/function/seen/pause").status == 202
    cell.until(lambda: cell.invoke("seen").status == 503, "the pause")
    assert cell.system("POST", "/function/seen/resume").status == 202
    cell.until(lambda: cell.invoke("seen").status == 200, "the end of the pause")
    cell.sleep("seen")
    assert cell.invoke("seen").cold


def test_kubectl_is_a_door_of_its_own(cell: Installed) -> None:
    cell.upload("applied:1", HELLO)
    apply(function("applied", "applied:1", envVars={"a": "b"}))
    kubectl("wait", "--for=condition=Ready", "function/applied", "-n", "openfaas-fn", "--timeout=30s")
    assert cell.invoke("applied").text == "hello"
    cell.upload("applied:2", TOKEN)
    apply(function("applied", "applied:2"))
    cell.until(lambda: cell.invoke("applied").text not in ("", "hello"), "the second revision")
    shown = kubectl("get", "function", "applied", "-n", "openfaas-fn", "--no-headers")
    assert shown.split()[4:5] == ["applied:2"] or "applied:2" in shown
    kubectl("delete", "function", "applied", "-n", "openfaas-fn", "--timeout=20s")
    cell.until(lambda: cell.invoke("applied").status == 404, "the removal")


def test_what_cannot_be_deployed_says_so_in_its_conditions(cell: Installed) -> None:
    with pytest.raises(KubectlFailed, match=r"scale\.zero"):
        apply(function("refused", "x:1", labels={"com.openfaas.scale.zero": "perhaps"}))
    apply(function("refused", "never:uploaded"))
    cell.until(lambda: cell.ready("refused")[0] == "False", "the refusal")
    assert cell.ready("refused")[1] == "Refused"
    assert "never:uploaded" in cell.ready("refused")[2]
    kubectl("delete", "function", "refused", "-n", "openfaas-fn", "--timeout=20s")


def test_columns_show_what_functions_do(cell: Installed) -> None:
    cell.deploy("column", HELLO, annotations={"rescoldo.dev/idle-window": "5m"})
    assert cell.invoke("column").status == 200

    def shows() -> bool:
        status = cell.function("column").get("status", {})
        return (status.get("kind"), status.get("awake"), status.get("calls")) == ("python", 1, 1)

    cell.until(shows, "the columns", 90)  # control patches one function in 1.5 s, and others change as well


def test_a_minimum_is_kept_awake_by_its_owner_alone(cell: Installed) -> None:
    cell.upload("kept:1", HELLO)
    body = {"service": "kept", "image": "kept:1", "labels": {"com.openfaas.scale.min": "2"}}
    assert cell.system("POST", "/functions", body).status == 202
    cell.until(lambda: cell.replicas("kept") == 2, "the minimum")
    assert not cell.invoke("kept").cold
    assert cell.system("DELETE", "/functions", {"functionName": "kept"}).status == 202


def test_an_alert_scales_a_function_at_its_owner(cell: Installed) -> None:
    cell.deploy("alerted", HELLO)
    assert cell.invoke("alerted").status == 200

    def listed() -> dict[str, int]:
        return {one["name"]: one["availableReplicas"] for one in json.loads(cell.system("GET", "/functions").text)}

    cell.until(lambda: listed()["alerted"] == 1, "the worker's report")
    alert = {"status": "firing", "labels": {"function_name": "alerted.openfaas-fn"}}
    answer = cell.system("POST", "/alert", {"status": "firing", "alerts": [alert]})
    assert (answer.status, answer.text) == (200, "")
    cell.until(lambda: cell.replicas("alerted") == 5, "a fifth of the maximum more")
    assert cell.system("DELETE", "/functions", {"functionName": "alerted"}).status == 202


def test_a_worker_takes_no_call_that_came_through_no_gateway(cell: Installed) -> None:
    for pod in cell.pods("worker"):
        for path in ("/function/tells", "/system/functions", "/healthz"):
            gateway, cell.host = cell.host, pod["status"]["podIP"]
            try:
                assert cell.call("GET", path).status == 403
            finally:
                cell.host = gateway


def test_the_way_to_owners_is_closed_to_others(cell: Installed) -> None:
    headers = {"X-Rescoldo-Control": "guess" * 8, "X-Rescoldo-Key": "tells.openfaas-fn"}
    assert cell.call("GET", "/-/owner/system/function/tells", headers=headers).status == 404
    assert cell.call("GET", "/system/functions").status == 401


def test_control_shows_nothing_without_a_login(cell: Installed) -> None:
    assert cell.call("POST", "/build", b"an archive").status == 401, "it has no signature"
    gateway, cell.host = cell.host, cell.pods("control")[0]["status"]["podIP"]
    try:
        assert cell.call("GET", "/-/metrics").status == 404
        assert cell.call("GET", "/metrics").status == 401
        assert "gateway_function_invocation_total" in cell.call("GET", "/metrics", headers=cell.authorization()).text
    finally:
        cell.host = gateway


# -- losses


def test_no_call_fails_when_a_worker_is_drained(cell: Installed) -> None:
    cell.deploy("drained", TOKEN)
    assert cell.invoke("drained").status == 200
    with Load([(cell.host, cell.port)], ["drained"]) as load:
        load.more()
        owner = cell.owner("drained")
        kubectl("delete", "pod", owner, "-n", "openfaas-fn", "--wait=true", "--timeout=90s")
        load.more()
    assert not load.failed, (load.failures(), cell.log())
    cell.until(lambda: cell.all_ready("worker", 2), "the next worker", 60)


def test_known_functions_wake_without_control(cell: Installed) -> None:
    cell.deploy("alone", HELLO)
    assert cell.invoke("alone").status == 200
    cell.sleep("alone")
    kubectl("scale", "deployment/rescoldo-control", "-n", "rescoldo", "--replicas=0")
    try:
        cell.until(lambda: not cell.pods("control"), "control's end")
        cold = cell.invoke("alone")
        assert (cold.status, cold.text, cold.cold) == (200, "hello", True)
        assert cell.system("GET", "/functions").status == 503
    finally:
        kubectl("scale", "deployment/rescoldo-control", "-n", "rescoldo", "--replicas=1")
        cell.until(lambda: cell.all_ready("control", 1), "control", 60)
        # gateways notice it by their own checks, a moment after kubelet does
        cell.until(lambda: cell.system("GET", "/functions").status == 200, "control behind the gateway")
    cell.until(lambda: cell.invocations("alone") == 2, "the calls that were counted meanwhile", 60)


def test_an_upload_brings_functions_back_after_all_bundles_were_lost(cell: Installed) -> None:
    """Control's volume is emptied, and the caches of workers end with their pods."""
    cell.deploy("lost", HELLO)
    assert cell.invoke("lost").status == 200
    before = {*cell.names("control"), *cell.names("worker")}
    (control,) = cell.names("control")
    cell.run("control", control, "sh", "-c", "rm -rf /data/*")
    kubectl("delete", "pod", "-n", "rescoldo", "-l", "app.kubernetes.io/component=control", "--wait=true")
    kubectl("delete", "pod", "-n", "openfaas-fn", "-l", WORKERS, "--wait=true")
    cell.until(lambda: cell.all_ready("control", 1) and cell.all_ready("worker", 2), "the next ones", 90)
    assert not before & {*cell.names("control"), *cell.names("worker")}
    cell.until(lambda: "lost" in [one["name"] for one in json.loads(cell.system("GET", "/functions").text)], "control")
    refused = cell.invoke("lost")
    assert refused.status == 503
    assert "bundle" in refused.text
    cell.upload("lost:test", HELLO)
    cell.until(lambda: cell.invoke("lost").text == "hello", "the function after the upload alone")


def test_a_worker_that_is_killed_costs_what_it_had_in_flight_at_most(cell: Installed) -> None:
    cell.deploy("killed", TOKEN)
    assert cell.invoke("killed").status == 200
    with Load([(cell.host, cell.port)], ["killed"]) as load:
        load.more()
        kubectl("delete", "pod", cell.owner("killed"), "-n", "openfaas-fn", "--grace-period=0", "--force")
        load.more()
    assert load.most_of_a_client() <= 1, load.failures()
    cell.until(lambda: cell.all_ready("worker", 2), "the next worker", 60)
