"""What is removed or changed is so at every worker when the answer comes, or the workers that lag are named."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.gateway import HELLO
from support.installed import Installed
from support.testcluster import KubectlFailed, apply, get, kubectl

pytestmark = pytest.mark.slow

NAMESPACE = "openfaas-fn"
FINALIZER = "rescoldo.dev/workers"
WORD = (
    "import os, pathlib\n"
    "def handle(event, context):\n"
    "    return pathlib.Path(os.environ['secret_mount_path'], 'word').read_text()\n"
)


@pytest.fixture(scope="module")
def cell(installed: Installed) -> Installed:
    installed.until(lambda: installed.all_ready("worker", 2), "both workers", 60)
    return installed


def seconds(work: Callable[[], Any]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def delete(name: str) -> None:
    kubectl("delete", "function", name, "-n", NAMESPACE, "--timeout=20s")


@contextmanager
def frozen(cell: Installed, pod: str) -> Iterator[None]:
    """The controller of a worker that does not run, as on a node without processor time; the edge goes on."""
    find = (
        "import os,sys,signal\n"
        "for p in filter(str.isdigit, os.listdir('/proc')):\n"
        "    try: line = open(f'/proc/{p}/cmdline').read()\n"
        "    except OSError: continue\n"
        "    if 'rescoldo.assembly.controller' in line and int(p) != os.getpid():\n"
        "        os.kill(int(p), getattr(signal, sys.argv[1]))\n"
    )
    cell.run("worker", pod, "python3", "-c", find, "SIGSTOP")
    try:
        yield
    finally:
        cell.run("worker", pod, "python3", "-c", find, "SIGCONT")


def test_a_deleted_function_is_gone_everywhere_when_kubectl_returns(cell: Installed) -> None:
    took = []
    for number in range(3):
        name = f"deleted{number}"
        cell.deploy(name, HELLO)
        assert cell.invoke(name).status == 200
        assert cell.function(name)["metadata"]["finalizers"] == [FINALIZER]
        took.append(seconds(lambda: delete(name)))  # noqa: B023
        assert cell.invoke(name).status == 404
        assert name not in cell.system("GET", "/functions").text
    assert min(took) < 2, (took, cell.log())


def test_a_removed_function_can_be_deployed_again_at_once(cell: Installed) -> None:
    for text in ("one", "two", "three"):
        cell.deploy("again", f"def handle(event, context):\n    return '{text}'\n")
        assert cell.invoke("again").text == text
        assert cell.system("DELETE", "/functions", {"functionName": "again"}).status == 202
        assert cell.invoke("again").status == 404
    cell.deploy("again", HELLO)
    meta = cell.function("again")["metadata"]
    assert ("deletionTimestamp" in meta, meta["finalizers"]) == (False, [FINALIZER])
    assert cell.invoke("again").text == "hello"
    delete("again")


def test_a_deletion_without_control_waits_for_the_next_one_and_workers_learn_it(cell: Installed) -> None:
    cell.deploy("meanwhile", HELLO)
    assert cell.invoke("meanwhile").status == 200
    kubectl("scale", "deployment/rescoldo-control", "-n", cell.system_namespace, "--replicas=0")
    try:
        cell.until(lambda: not cell.pods("control"), "control's end")
        kubectl("delete", "function", "meanwhile", "-n", NAMESPACE, "--wait=false")
        assert "deletionTimestamp" in cell.function("meanwhile")["metadata"]
    finally:
        kubectl("scale", "deployment/rescoldo-control", "-n", cell.system_namespace, "--replicas=1")
        cell.until(lambda: cell.all_ready("control", 1), "control", 60)

    def gone() -> bool:
        return "meanwhile" not in kubectl("get", "functions", "-n", NAMESPACE, "-o", "name")

    cell.until(gone, "the end of the deletion", 30)
    cell.until(lambda: cell.invoke("meanwhile").status == 404, "the removal", 60)  # workers ask every 10 s
    cell.until(lambda: cell.system("GET", "/functions").status == 200, "control behind the gateway", 30)


def test_a_worker_that_does_not_answer_holds_a_deletion_up_for_five_seconds(cell: Installed) -> None:
    cell.deploy("held", HELLO)
    other = next(pod for pod in cell.names("worker") if pod != cell.owner("held"))
    with frozen(cell, other):
        took = seconds(lambda: delete("held"))
    assert 4.5 < took < 9, cell.log()
    said = kubectl("logs", "-n", cell.system_namespace, "deployment/rescoldo-control", "--tail=50")
    assert f"these workers have not confirmed it: {other}" in said
    cell.until(lambda: cell.all_ready("worker", 2), "both workers", 60)


def test_what_kubectl_makes_is_held_once_it_is_deployed(cell: Installed) -> None:
    cell.upload("made:1", HELLO)
    made = {
        "apiVersion": "rescoldo.dev/v1", "kind": "Function", "metadata": {"name": "made", "namespace": NAMESPACE},
        "spec": {"image": "made:1"},
    }  # fmt: skip
    apply(made)
    kubectl("wait", "--for=condition=Ready", "function/made", "-n", NAMESPACE, "--timeout=30s")
    assert cell.function("made")["metadata"]["finalizers"] == [FINALIZER]
    assert cell.invoke("made").text == "hello"
    delete("made")
    with pytest.raises(KubectlFailed, match="not found"):
        get("function", "made", "-n", NAMESPACE)


# -- secrets


def ready_condition(cell: Installed, name: str, condition: str) -> tuple[str, str]:
    """Status and message of a condition; empty texts without it."""
    for one in cell.function(name).get("status", {}).get("conditions", []):
        if one["type"] == condition:
            return one["status"], one["message"]
    return "", ""


def test_a_changed_secret_is_in_force_when_the_answer_comes(cell: Installed) -> None:
    assert cell.system("POST", "/secrets", {"name": "word", "value": "0"}).status == 202
    cell.deploy("reads", WORD, secrets=["word"])
    assert cell.invoke("reads").text == "0"
    for value in "12345":
        answer = cell.system("PUT", "/secrets", {"name": "word", "value": value})
        assert (answer.status, answer.text) == (202, ""), cell.log()
        assert cell.invoke("reads").text == value
    assert ready_condition(cell, "reads", "Acknowledged") == ("", "")


def test_a_worker_without_the_new_value_is_named_until_it_has_it(cell: Installed) -> None:
    owner = cell.owner("reads")
    with frozen(cell, owner):
        answer = cell.system("PUT", "/secrets", {"name": "word", "value": "late"})
        said = f"these workers have not confirmed the last change: {owner}"
        assert (answer.status, answer.text) == (202, f"note: reads.openfaas-fn: {said}\n"), cell.log()
        cell.until(lambda: ready_condition(cell, "reads", "Acknowledged") == ("False", said), "the condition")
    cell.until(lambda: ready_condition(cell, "reads", "Acknowledged") == ("True", ""), "its end", 60)
    assert cell.invoke("reads").text == "late"
    delete("reads")
    assert cell.system("DELETE", "/secrets", {"name": "word"}).status == 202


# -- deployments


def test_a_deployment_without_workers_says_so_and_starts_once_there_is_one(cell: Installed) -> None:
    cell.upload("waits:1", HELLO)
    kubectl("scale", "deployment/rescoldo-worker", "-n", NAMESPACE, "--replicas=0")
    try:
        cell.until(lambda: not cell.pods("worker"), "the workers' end", 90)
        answer = cell.system("POST", "/functions", {"service": "waits", "image": "waits:1"})
        assert (answer.status, "no worker has taken it over yet" in answer.text) == (202, True)
        assert cell.ready("waits")[0] == "Unknown"
        said = "no worker has taken it over yet"
        cell.until(lambda: said in ready_condition(cell, "waits", "Acknowledged")[1], "the condition")
        assert ready_condition(cell, "waits", "Acknowledged")[0] == "False"
        with pytest.raises(KubectlFailed):
            kubectl("wait", "--for=condition=Ready", "function/waits", "-n", NAMESPACE, "--timeout=1s")
    finally:
        kubectl("scale", "deployment/rescoldo-worker", "-n", NAMESPACE, "--replicas=2")
    kubectl("wait", "--for=condition=Ready", "function/waits", "-n", NAMESPACE, "--timeout=90s")  # without a call
    kubectl("wait", "--for=condition=Acknowledged", "function/waits", "-n", NAMESPACE, "--timeout=30s")
    cell.until(lambda: cell.invoke("waits").text == "hello", "the function", 30)
    delete("waits")
    cell.until(lambda: cell.all_ready("worker", 2), "both workers", 60)
