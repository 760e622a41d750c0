"""A function with `rescoldo.dev/max-strict: "true"` and a maximum of one never runs twice, whoever believes to own it.

Each instance says its name to a witness outside of the cluster, 50 times a second, from its import until its process
has ended. Once another instance has spoken, the one before is never heard again.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby

import pytest

from support.faults import parted
from support.installed import Installed
from support.load import Address, Load
from support.testcluster import kubectl
from support.witness import Said, Witness

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# A worker that is added gets a third of all functions: that none of 16 moves has a chance of (2/3)**16 = 0.15 %.
NAMES = [f"strict-{number}" for number in range(16)]
STRICT = {"rescoldo.dev/max-strict": "true"}
ONE = {"com.openfaas.scale.max": "1"}
BEATS = (
    "import os, socket, threading, time, uuid\n"
    "host, port = os.environ['witness'].split(':')\n"
    "said = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    "said.connect((host, int(port)))\n"
    "text = f\"{os.environ['name']} {uuid.uuid4().hex}\".encode()\n"
    "def beat():\n"
    "    while True:\n"
    "        said.send(text)\n"
    "        time.sleep(0.02)\n"
    "said.send(text)\n"
    "threading.Thread(target=beat, daemon=True).start()\n"
    "def handle(event, context):\n"
    "    return text.decode()\n"
)
GET = ("GET",)
LOOK_SECONDS = 0.5
CUT_SECONDS = 1.0  # until a gateway has noticed that it does not reach a worker
DISPUTE_SECONDS = 12.0  # more than a third of a grant: holders hear that another worker wants what they have
MOVE_SECONDS = 60.0  # two grants


@pytest.fixture(scope="module")
def cell(installed: Installed) -> Installed:
    return installed


@pytest.fixture(scope="module")
def functions(cell: Installed, witness: Witness) -> Iterator[None]:
    """The functions, which sleep again at the end: their instances say things without an end."""
    cell.upload("beats:test", BEATS)
    for name in NAMES:
        told = {"witness": witness.address, "name": name}
        cell.deploy(name, image="beats:test", envVars=told, annotations=STRICT, labels=ONE)
    yield
    for name in NAMES:
        assert cell.system("DELETE", "/functions", {"functionName": name}).status == 202


@pytest.fixture
def gateways(cell: Installed, functions: None) -> Sequence[Address]:
    """The gateways, each by its own address."""
    return [(pod["status"]["podIP"], cell.port) for pod in cell.pods("gateway")]


def instances(heard: Sequence[Said]) -> dict[str, list[tuple[str, str]]]:
    """By function: its instances as they were heard, one after another, each with its pod."""
    found: dict[str, list[Said]] = defaultdict(list)
    for said in heard:
        found[said.text.split()[0]].append(said)
    return {name: [(said.text, said.pod) for said, _ in groupby(all_of_it)] for name, all_of_it in found.items()}


def never_two(witness: Witness) -> None:
    """Each instance was heard in one go."""
    for name, spoke in instances(witness.heard()).items():
        assert len(spoke) == len(set(spoke)), f"{name} ran twice: {spoke}"


def moved(witness: Witness, pods: set[str]) -> set[str]:
    """The functions that ran in all these pods, by their addresses."""
    return {name for name, spoke in instances(witness.heard()).items() if pods <= {pod for _, pod in spoke}}


def only_refused(*loads: Load, since: float = 0.0) -> None:
    """No call that ended later than `since` failed but those that no worker may take now."""
    for load in loads:
        assert {call.outcome for call in load.failed if call.end > since} <= {"503"}, load.failures()


def test_never_two_while_gateways_see_different_workers(
    cell: Installed, witness: Witness, gateways: Sequence[Address]
) -> None:
    workers = cell.pods("worker")
    both = {worker["status"]["podIP"] for worker in workers}
    with parted(*zip(workers, cell.pods("gateway"), strict=True)):
        noticed = time.monotonic() + CUT_SECONDS
        with Load(gateways, NAMES, methods=GET) as disputed:
            disputed.last(DISPUTE_SECONDS)
        with Load(gateways[:1], NAMES, methods=GET) as settled:
            settled.until(lambda: moved(witness, both), "a move to the other worker", MOVE_SECONDS, LOOK_SECONDS)
    with Load(gateways, NAMES, methods=GET) as whole:
        whole.more()
    never_two(witness)
    only_refused(disputed, settled, whole, since=noticed)


def test_never_two_while_a_worker_is_added_and_goes_again(
    cell: Installed, witness: Witness, gateways: Sequence[Address]
) -> None:
    before = {worker["status"]["podIP"] for worker in cell.pods("worker")}
    with Load(gateways, NAMES, methods=GET) as load:
        load.more()
        try:
            scale(cell, 3)
            added = {worker["status"]["podIP"] for worker in cell.pods("worker")} - before
            load.until(lambda: moved(witness, added), "a move to the added worker", MOVE_SECONDS, LOOK_SECONDS)
        finally:
            scale(cell, 2)
        load.more()
    never_two(witness)
    only_refused(load)


def scale(cell: Installed, number: int) -> None:
    kubectl("scale", "deployment/rescoldo-worker", "-n", cell.functions, f"--replicas={number}")
    cell.until(lambda: cell.all_ready("worker", number), f"{number} workers", 60)
