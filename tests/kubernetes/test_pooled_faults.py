"""Faults while functions are called: what a fault may fail is in flight in what was killed, and a drain fails nothing.

Each test has clients that call functions which stay awake, and one whose functions sleep in between. The functions say
to a witness outside of the cluster which POSTs they run: none is run twice, whatever fails.
"""

from __future__ import annotations

import subprocess
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from matrix.clustered import ClusterFault, result, write
from support.faults import cut_off, end_api_server, first_process, kill, with_word
from support.installations import GATEWAY_IP, values
from support.installed import Installed
from support.load import Address, Load
from support.testcluster import KubectlFailed, apply, cluster, get, kubectl, load_image
from support.witness import SPEAKS, Witness

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

AWAKE = [f"awake-{number}" for number in range(6)]
ASLEEP = [f"asleep-{number}" for number in range(10)]  # each is called every 2.5 s
SOON_ASLEEP = {"rescoldo.dev/idle-window": "500ms"}
SERVICE: Address = (GATEWAY_IP, 80)
KEPT = {"storage": {"persistent": True}}  # control has its bundles still when its pod was replaced
PREVIOUS = "docker.io/library/rescoldo:previous"
ROOT = Path(__file__).parents[2]
LOOK = 0.2  # seconds between two looks at the cluster, which cost time of the processor
LOST = 0.01  # of all datagrams to the witness, at most: some are under way in a pod's network when the pod ends
CUT_SECONDS = 1.0  # for which calls may fail after a worker's network was cut
API_SERVER_AWAY = 30.0  # seconds
PARTS = {"control": 1, "gateway": 2, "worker": 2}  # and how many pods each has
RECOVERY = 90.0  # seconds until all pods are ready again


@pytest.fixture(scope="module")
def cell(installed: Installed) -> Installed:
    """The installation, with a volume for control."""
    name = f"control-{uuid.uuid4().hex[:6]}"
    folder = f"/var/lib/{name}"
    cluster("enter", "mkdir", "--mode=1777", folder)
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
        "hostPath": {"path": folder, "type": "Directory"},
    }
    apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})
    installed.install(control=KEPT)
    return installed


@pytest.fixture(scope="module")
def functions(cell: Installed, witness: Witness) -> None:
    """The functions that are called."""
    cell.upload("speaks:test", SPEAKS)
    told = {"witness": witness.address}
    for name in AWAKE:
        cell.deploy(name, image="speaks:test", envVars=told)
    for name in ASLEEP:
        cell.deploy(name, image="speaks:test", envVars=told, annotations=SOON_ASLEEP)
    for name in (*AWAKE, *ASLEEP):
        answer = cell.invoke(name)
        assert (answer.status, answer.text) == (200, "done"), cell.log()


@pytest.fixture
def whole(cell: Installed, functions: None) -> Iterator[None]:
    """After a test all parts are ready again."""
    yield
    cell.until(lambda: is_whole(cell), "all pods to be ready", RECOVERY)


def is_whole(cell: Installed) -> bool:
    return all(cell.all_ready(part, number) for part, number in PARTS.items())


class UnderLoad:
    """Calls that go on before, during and after a fault, and what it cost them."""

    def __init__(self, witness: Witness) -> None:
        self.results: list[ClusterFault] = []
        self._witness = witness

    @contextmanager
    def __call__(self, fault: str, *addresses: Address, audible: bool = True) -> Iterator[Load]:
        """Functions are woken, too, and no POST runs twice. `audible`: the fault keeps nobody from the witness."""
        with Load(addresses or (SERVICE,), AWAKE, ASLEEP) as found:
            found.more(wakes=2)
            before = posts(found)
            yield found
            found.more(wakes=8)
        self.results.append(result(fault, found))
        runs = Counter(said.text for said in self._witness.heard())
        assert not {body: number for body, number in runs.items() if number > 1}, found.failures()
        answered = posts(found) if audible else before
        assert len(answered - runs.keys()) <= len(answered) * LOST, "the witness hears the calls that were answered"


@pytest.fixture(scope="module")
def under_load(witness: Witness) -> Iterator[UnderLoad]:
    found = UnderLoad(witness)
    yield found
    write(found.results)


def posts(load: Load) -> set[str]:
    """The POSTs that were answered, by their bodies."""
    return {call.body for call in load.calls if call.method == "POST" and not call.failed}


def only_in_flight(load: Load, end: float, *, repeated: bool = True) -> None:
    """Nothing failed but calls that had begun when what was killed ended: one of each client at most. `repeated`: a
    gateway sends those once more that may be repeated, so only POSTs fail."""
    assert load.most_of_a_client() <= 1, load.failures()
    assert all(call.begin <= end for call in load.failed), f"ended at {end:.3f}: {load.failures()}"
    assert not repeated or {call.method for call in load.failed} <= {"POST"}, load.failures()


def owner(cell: Installed, function: str) -> dict[str, Any]:
    """The pod of the worker that has a function."""
    return dict(get("pod", cell.owner(function), "-n", cell.functions))


def addresses(cell: Installed) -> list[Address]:
    """The gateways, each by its own address."""
    return [(pod["status"]["podIP"], cell.port) for pod in cell.pods("gateway")]


def restarts(cell: Installed) -> dict[str, int]:
    """How often containers of each pod were started again."""
    return {name_of(pod): restarts_of(pod) for part in PARTS for pod in cell.pods(part)}


def restarts_of(pod: dict[str, Any]) -> int:
    return sum(one["restartCount"] for one in pod["status"].get("containerStatuses", []))


def name_of(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["name"])


def is_again(cell: Installed, pod: dict[str, Any]) -> bool:
    """Whether a container of `pod` was started again since."""
    return restarts(cell)[name_of(pod)] > restarts_of(pod)


# -- parts of a worker


@pytest.mark.parametrize(
    ("part", "word", "fails"),
    [
        ("edge", " -db -f ", True),
        ("node", "rescoldo.node.main", False),
        ("controller", "rescoldo.assembly.controller", False),
    ],
)
def test_a_part_of_a_worker_is_killed(
    cell: Installed, under_load: UnderLoad, whole: None, part: str, word: str, fails: bool
) -> None:
    worker = owner(cell, AWAKE[0])
    with under_load(f"the {part} of a worker is killed") as calls:
        (killed, *_) = with_word(worker, word)
        end = kill(killed)
        calls.until(lambda: set(with_word(worker, word)) - {killed}, f"another {part}", every=LOOK)
    if fails:
        only_in_flight(calls, end)
    else:
        assert not calls.failed, calls.failures()
    assert not is_again(cell, worker), "the worker itself goes on"


def test_all_processes_of_a_worker_are_killed(cell: Installed, under_load: UnderLoad, whole: None) -> None:
    worker = owner(cell, AWAKE[0])
    with under_load("all processes of a worker are killed") as calls:
        end = kill(first_process(worker))
        calls.until(lambda: is_again(cell, worker), "the worker to start again", every=LOOK)
    only_in_flight(calls, end)


def test_the_network_of_a_worker_is_cut(cell: Installed, under_load: UnderLoad, whole: None) -> None:
    worker = owner(cell, AWAKE[0])
    with under_load("the network of a worker is cut", audible=False) as calls:
        with cut_off(worker) as begin:
            calls.more(calls=400, wakes=8)
        calls.until(lambda: cell.owner(AWAKE[0]) == name_of(worker), "its return", every=LOOK)
    assert all(call.end <= begin + CUT_SECONDS for call in calls.failed), f"cut at {begin:.3f}: {calls.failures()}"
    assert calls.most_of_a_client() <= 1, calls.failures()


# -- gateways and control


def test_the_proxy_of_a_gateway_is_killed(cell: Installed, under_load: UnderLoad, whole: None) -> None:
    gateway = cell.pods("gateway")[0]
    with under_load("the proxy of a gateway is killed", *addresses(cell)) as calls:
        end = kill(with_word(gateway, " -db -f ")[-1])  # the youngest: HAProxy's master has the same command
        calls.until(lambda: is_again(cell, gateway), "another HAProxy", every=LOOK)
    only_in_flight(calls, end, repeated=False)
    assert {call.address[0] for call in calls.failed} <= {gateway["status"]["podIP"]}, calls.failures()


def test_no_call_fails_when_a_gateway_is_deleted(cell: Installed, under_load: UnderLoad, whole: None) -> None:
    gateway = cell.names("gateway")[0]
    with under_load("the pod of a gateway is deleted", *addresses(cell)) as calls:
        kubectl("delete", "pod", gateway, "-n", cell.system_namespace, "--wait=true", "--timeout=90s")
    assert not calls.failed, calls.failures()
    cell.choose_gateway()


def test_no_call_and_no_wake_fails_when_control_is_killed(cell: Installed, under_load: UnderLoad, whole: None) -> None:
    (control,) = cell.pods("control")
    with under_load("control is killed") as calls:
        kill(first_process(control))
        calls.until(lambda: is_again(cell, control), "the next control", every=LOOK)
    assert not calls.failed, calls.failures()


# -- the cluster


def test_functions_are_called_and_wake_while_the_api_server_is_away(
    cell: Installed, under_load: UnderLoad, whole: None, faults: None
) -> None:
    with under_load(f"the API server is away for {API_SERVER_AWAY:.0f} s") as calls:
        end_api_server()
        before = calls.woken
        calls.last(API_SERVER_AWAY)
        assert calls.woken - before > API_SERVER_AWAY, "one wake in a second"
    assert not calls.failed, calls.failures()


def test_no_call_fails_when_kubelet_is_killed(
    cell: Installed, under_load: UnderLoad, whole: None, faults: None
) -> None:
    before = restarts(cell)
    (node,) = [one["metadata"]["name"] for one in get("nodes")["items"]]
    with under_load("kubelet is killed") as calls:
        cluster("kill", "kubelet")
        calls.until(lambda: kubelet_answers(node), "kubelet", every=LOOK)
    assert not calls.failed, calls.failures()
    assert restarts(cell) == before


def kubelet_answers(node: str) -> bool:
    try:
        return kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/healthz") == "ok"
    except KubectlFailed:
        return False


# -- roll-outs


def test_no_call_fails_while_all_parts_are_replaced(cell: Installed, under_load: UnderLoad, whole: None) -> None:
    before = set(restarts(cell))
    with under_load("all pods are replaced") as calls:
        cell.install(**annotated(cell, uuid.uuid4().hex))
    assert not calls.failed, calls.failures()
    assert not calls.refused
    assert not before & set(restarts(cell)), "all pods are new"


def annotated(cell: Installed, text: str) -> dict[str, Any]:
    """Values that replace all pods."""
    chosen = values(cell.system_namespace)
    pods = {part: {"pod": {**chosen[part]["pod"], "annotations": {"test": text}}} for part in PARTS}
    return {**pods, "control": {**pods["control"], **KEPT}}


PORTS = {True: frozenset({"8443"}), False: frozenset({"8080"})}  # of workers, with and without TLS


def test_no_call_fails_while_tls_to_workers_is_switched_on_and_off(
    cell: Installed, under_load: UnderLoad, whole: None
) -> None:
    for tls, ports in PORTS.items():
        with under_load(f"TLS to workers is switched {'on' if tls else 'off'}") as calls:
            cell.install(gateway={"tlsToWorkers": tls}, control=KEPT)
            calls.until(partial(speaks_at, cell, ports), "all gateways to do so", every=LOOK)
            calls.more(calls=200, wakes=4)
        assert not calls.failed, calls.failures()


def speaks_at(cell: Installed, ports: frozenset[str]) -> bool:
    """Whether gateways speak to workers at these ports."""
    text = "".join(
        cell.run("gateway", name, "cat", "/run/rescoldo/gateway/pools.cfg", container="agent")
        for name in cell.names("gateway")
    )
    lines = [line.split() for line in text.splitlines() if line.startswith("  server ")]
    return frozenset(words[2].rpartition(":")[2] for words in lines) == ports


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of the commit before this one."""
    folder = tmp_path_factory.mktemp("previous")
    archive = subprocess.run(["git", "-C", ROOT, "archive", "HEAD^", "src"], capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"needs the history of the repository: {archive.stderr.decode()}")
    subprocess.run(["tar", "--extract", "--directory", folder], input=archive.stdout, check=True)
    return folder / "src"


@pytest.mark.timeout(600)
def test_no_call_fails_during_a_return_to_the_commit_before_and_the_upgrade_from_it(
    cell: Installed, under_load: UnderLoad, whole: None, previous: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setenv("PYTHONPATH", str(previous))  # its own verbs make the image and install it
        load_image(PREVIOUS)
        with under_load("a return to the commit before") as calls:
            cell.install(image=PREVIOUS, control=KEPT)
    assert not calls.failed, calls.failures()
    with under_load("the upgrade from the commit before") as calls:
        cell.install(control=KEPT)
    assert not calls.failed, calls.failures()
