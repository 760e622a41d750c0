"""A gateway's pod as Pod Security "restricted" wants it: HAProxy and its agent, with the keys that control makes.

Workers are stand-ins of a few lines, which take calls with their pool's secret alone.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rescoldo.cli.main import VERBS
from rescoldo.cluster.identities import Identities
from rescoldo.kube.client import find_cluster
from support.faults import kill, with_word
from support.gateway import Gateway
from support.pods import RESTRICTED
from support.testcluster import IMAGE, KUBECONFIG, KubectlFailed, apply, get, kubectl

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("kubernetes" not in VERBS, reason="rescoldo has no verb kubernetes yet"),
]

RUN, SECRETS, IDENTITY = "/run/rescoldo", "/etc/rescoldo/secrets", "/etc/rescoldo/identity"
PARTS = {"app.kubernetes.io/name": "rescoldo"}
CLIENTS = 6
SLOWSTART_SECONDS = 0.5
WORKER = f"""\
import http.server, os, pathlib, signal, threading, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
class Calls(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        time.sleep(float(body or 0))
        known = pathlib.Path("{IDENTITY}/pool-secret").read_text().split()
        self.send_response(200 if self.headers.get("x-rescoldo-pool") in known else 403)
        self.send_header("content-length", str(len(NAME)))
        self.end_headers()
        self.wfile.write(NAME)
    do_POST = do_GET
    def log_message(self, *_): pass
class Checks(Calls):
    def do_GET(self):
        self.send_response(200 if self.path == "/healthz" else 404)
        self.send_header("content-length", "0")
        self.end_headers()
NAME = os.environ["HOSTNAME"].encode()
checks = http.server.ThreadingHTTPServer(("0.0.0.0", 8082), Checks)
threading.Thread(target=checks.serve_forever).start()
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Calls).serve_forever()
"""


def pod(name: str, namespace: str, component: str, containers: list[dict[str, Any]], **spec: Any) -> dict[str, Any]:
    common = {"image": IMAGE, "imagePullPolicy": "Never", "securityContext": RESTRICTED}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {**PARTS, "app.kubernetes.io/component": component},
        },
        "spec": {
            "containers": [{**common, **container} for container in containers],
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 30,
            **spec,
        },
    }


def worker(namespace: str, name: str) -> dict[str, Any]:
    container = {
        "name": "worker",
        "command": ["python3", "-c", WORKER],
        "volumeMounts": [{"name": "identity", "mountPath": IDENTITY, "readOnly": True}],
        "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},  # as a worker that drains
    }
    identity = {"name": "identity", "secret": {"secretName": "rescoldo-identity"}}
    return pod(name, namespace, "worker", [container], volumes=[identity], automountServiceAccountToken=False)


def gateway(system: str, functions: str, name: str) -> dict[str, Any]:
    folder = ("--folder", RUN)
    run = {"name": "run", "mountPath": RUN}
    hook = {"preStop": {"exec": {"command": ["rescoldo", "kubernetes", "gateway-drain", *folder, "--drain", "1s"]}}}
    ready = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}
    haproxy = {
        "name": "haproxy",
        "args": ["kubernetes", "gateway", *folder],
        "volumeMounts": [run],
        "lifecycle": hook,
        "readinessProbe": ready,
    }
    agent = {
        "name": "agent",
        "args": [
            "kubernetes", "gateway-agent", *folder, "--control-address", "127.0.0.1:9", "--namespace", functions,
            "--secrets", SECRETS, "--slowstart", f"{SLOWSTART_SECONDS}s",
        ],
        "volumeMounts": [
            run,
            {"name": "pools", "mountPath": f"{SECRETS}/pools", "readOnly": True},
            {"name": "control", "mountPath": f"{SECRETS}/control", "readOnly": True},
        ],
        "lifecycle": hook,
    }  # fmt: skip
    volumes = [
        {"name": "run", "emptyDir": {"medium": "Memory"}},
        {"name": "pools", "secret": {"secretName": "rescoldo-pools"}},
        {"name": "control", "secret": {"secretName": "rescoldo-control-keys"}},
    ]
    return pod(name, system, "gateway", [haproxy, agent], volumes=volumes, serviceAccountName="rescoldo-gateway")


class GatewayPod(Gateway):
    """A gateway in a pod, reached at the pod's address, and the workers of one namespace."""

    port = 8080

    def __init__(self, system: str, functions: str) -> None:
        self.system_namespace, self.functions = system, functions
        # kubelet starts a pod late whose namesake it still ends
        self.name, self.one, self.two, self.three = (
            f"{part}-{uuid.uuid4().hex[:6]}" for part in ("gateway", "one", "two", "three")
        )
        self.host = ""

    def start(self) -> None:
        apply(gateway(self.system_namespace, self.functions, self.name))
        self.until(lambda: self.status(self.name, self.system_namespace).get("podIP"), "an address of the gateway")
        self.host = self.status(self.name, self.system_namespace)["podIP"]
        self.until(self.takes_part, "the gateway")

    def takes_part(self) -> bool:
        try:
            return self.call("GET", "/healthz", timeout=2).status == 200
        except OSError:
            return False

    def log(self) -> str:
        return "\n".join(
            kubectl("logs", self.name, "-n", self.system_namespace, "-c", part) for part in ("haproxy", "agent")
        )

    def status(self, name: str, namespace: str) -> dict[str, Any]:
        return dict(get("pod", name, "-n", namespace)["status"])

    def add(self, *names: str) -> None:
        """Start workers, and wait until they have all functions that fall to them."""
        apply(*[worker(self.functions, name) for name in names])
        self.until(lambda: set(names) <= set(self.owners()), f"calls at {names}")
        self.settle()

    def settle(self) -> None:
        """Wait for the end of a ramp, in which functions move to new workers one after another."""
        before, since = self.owner_of_each(), time.monotonic()

        def stays() -> bool:
            nonlocal before, since
            if (now := self.owner_of_each()) != before:
                before, since = now, time.monotonic()
            return time.monotonic() - since > 2 * SLOWSTART_SECONDS

        self.until(stays, "functions to stay at their workers")

    def owners(self) -> Counter[str]:
        """Which workers answer for some functions, and for how many each."""
        return Counter(self.owner_of_each())

    def owner_of_each(self) -> list[str]:
        return [self.ask(number, timeout=5).text for number in range(30)]

    def ask(self, number: int, body: str | None = None, **options: Any) -> Any:
        return self.invoke(f"fn-{number}.{self.functions}", body, **options)

    def restarts(self, part: str) -> int:
        found = self.status(self.name, self.system_namespace)["containerStatuses"]
        return next(int(one["restartCount"]) for one in found if one["name"] == part)

    def kill(self, word: str) -> None:
        """Kill a process of the gateway's pod, as the node does that has no memory left: the youngest with that word in
        its command, as HAProxy's master has its own."""
        kill(with_word(get("pod", self.name, "-n", self.system_namespace), word)[-1])

    @contextmanager
    def load(self) -> Iterator[list[str]]:
        """Call functions all the time, with POST, which no proxy may repeat once a worker has it; what failed is in
        the list at the end."""
        failed: list[str] = []
        made = Counter[str]()
        stop = threading.Event()

        def go_on(client: int) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    answer = self.ask((client + number) % 30, "0", timeout=20)
                    made[answer.text] += 1
                    if answer.status != 200:
                        failed.append(f"{answer.status} {answer.text}")
                except OSError as error:
                    failed.append(repr(error))

        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(go_on, client) for client in range(CLIENTS)]
            self.until(lambda: made.total() > 50, "the first calls")
            try:
                yield failed
                before = made.total()
                self.until(lambda: made.total() > before + 100, "calls afterwards")
            finally:
                stop.set()
            for client in clients:
                client.result()


async def _make_keys(system: str, functions: str, folder: Path) -> None:
    async with find_cluster(KUBECONFIG) as cluster:
        identities = Identities(cluster, system, [functions], folder)
        await identities.prepare()
        assert identities.problems == ()


@pytest.fixture(scope="module")
def keys(image: None, namespaces: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Namespaces with all that a gateway needs."""
    system, functions = namespaces
    for namespace in namespaces:
        kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    kubectl("create", "serviceaccount", "rescoldo-gateway", "-n", system)
    kubectl("create", "role", "pods", "--verb=get,list,watch", "--resource=pods", "-n", functions)
    account = f"--serviceaccount={system}:rescoldo-gateway"
    kubectl("create", "rolebinding", "pods", "--role=pods", account, "-n", functions)
    asyncio.run(_make_keys(system, functions, tmp_path_factory.mktemp("keys")))
    return namespaces


@pytest.fixture
def real(keys: tuple[str, str]) -> Iterator[GatewayPod]:
    """A gateway with the workers one and two."""
    system, functions = keys
    made = GatewayPod(system, functions)
    try:
        made.start()
        assert made.ask(1).status == 503, "the namespace is known before its workers"
        made.add(made.one, made.two)
        yield made
    finally:
        for namespace in keys:
            kubectl("delete", "pods", "--all", "-n", namespace, "--grace-period=0", "--force")


def test_calls_reach_the_workers_with_their_pools_secret(real: GatewayPod) -> None:
    assert {real.ask(number).status for number in range(30)} == {200}
    first = real.owner_of_each()
    assert set(first) == {real.one, real.two}
    assert real.owner_of_each() == first, "a function stays at its worker"
    assert real.ask(1, headers={"X-Rescoldo-Pool": "made up"}).status == 200, "what a client says is replaced"
    assert real.invoke("fn.elsewhere").status == 404


def test_calls_go_on_when_the_agent_is_killed_and_the_next_one_takes_over(real: GatewayPod) -> None:
    with real.load() as failed:
        real.kill("gateway-agent")
        real.until(lambda: real.restarts("agent") == 1, "another agent")
        real.add(real.three)
    assert failed == []
    assert real.restarts("haproxy") == 0


def test_no_call_fails_when_a_worker_is_deleted(real: GatewayPod) -> None:
    with real.load() as failed:
        kubectl("delete", "pod", real.one, "-n", real.functions, "--wait=true")
        assert real.owners().keys() == {real.two}
    assert failed == []


def test_a_haproxy_that_is_killed_comes_back_with_its_workers(real: GatewayPod) -> None:
    real.kill("-db -f")
    real.until(lambda: real.restarts("haproxy") == 1 and real.takes_part(), "another HAProxy")
    assert real.owners().keys() == {real.one, real.two}
    assert real.restarts("agent") == 0


def test_a_gateway_that_is_deleted_finishes_its_calls_and_ends(real: GatewayPod) -> None:
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(real.ask, 1, "4")
        kubectl("delete", "pod", real.name, "-n", real.system_namespace, "--wait=false")
        real.until(lambda: not real.takes_part(), "the gateway to leave")
        assert not call.done()
        assert real.ask(2).status == 200, "it serves on"
        assert call.result().status == 200
    began = time.monotonic()
    while exists(real):
        assert time.monotonic() < began + 15, "a process has to be killed after 30 s"
        time.sleep(0.1)


def exists(real: GatewayPod) -> bool:
    try:
        get("pod", real.name, "-n", real.system_namespace)
    except KubectlFailed:
        return False
    return True
