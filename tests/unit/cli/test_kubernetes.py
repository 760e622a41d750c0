"""`rescoldo kubernetes`, with a cluster in memory and a gateway that records requests."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rescoldo.cli.cluster import ClusterFlags
from rescoldo.cli.kubernetes import COMMANDS
from rescoldo.cli.probing import PROBE
from rescoldo.install.checking import CLASSES
from rescoldo.install.kinds import DEPLOYMENTS, NAMESPACES, SECRETS
from rescoldo.install.reaching import Door
from support.ready_cluster import ReadyCluster

DEFAULT = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
LOGIN = {"basic-auth-user": "admin", "basic-auth-password": "open sesame"}
MADE = {"app.kubernetes.io/managed-by": "rescoldo"}
HEADER = f"Basic {base64.b64encode(b'admin:open sesame').decode()}"
INSTALL = ("kubernetes", "install", "--image", "rescoldo:1", "--timeout", "5s")
# forwards to the port in $TARGET as far as anybody can tell from what it prints, and writes down how it was called
KUBECTL = """#!{python}
import os, sys, time
open({log!r}, "w").write(" ".join(sys.argv[1:]))
print({line!r}, flush=True)
{then}
"""


@pytest.fixture
def cluster(monkeypatch) -> ReadyCluster:
    """A cluster with storage, in which control has made the login."""
    found = ReadyCluster()

    async def prepare() -> None:
        await found.add(CLASSES, "fast", metadata=DEFAULT)
        data = {key: base64.b64encode(value.encode()).decode() for key, value in LOGIN.items()}
        await found.add(SECRETS, "rescoldo-login", "rescoldo", metadata={"labels": MADE}, data=data)

    asyncio.run(prepare())
    monkeypatch.setattr(ClusterFlags, "run", lambda self, work: asyncio.run(work(found)))
    return found


@pytest.fixture
def door(monkeypatch, gateway):
    """A gateway at an address of its own, with a function that answers."""
    monkeypatch.delenv("OPENFAAS_URL")

    async def doors(*_: object) -> list[Door]:
        return [Door("http://127.0.0.1:1", "ingress"), Door(gateway.url, "load balancer")]

    monkeypatch.setattr("rescoldo.install.reaching.find_doors", doors)
    gateway.answer("GET /healthz", 200, b"OK")
    gateway.answer("GET /system/functions", 200, [])
    gateway.answer(f"GET /function/{PROBE}", 200, b"awake")
    return gateway


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    """A kubectl of a test's making; returns the file with its arguments."""
    folder, log = tmp_path / "bin", tmp_path / "kubectl.log"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(line: str, then: str = "time.sleep(60)") -> Path:
        program = folder / "kubectl"
        program.write_text(KUBECTL.format(python=sys.executable, log=str(log), line=line, then=then))
        program.chmod(0o755)
        return log

    return make


def names(cluster: ReadyCluster, kind=DEPLOYMENTS) -> list[str]:
    return asyncio.run(cluster.names(kind))


def test_the_commands_of_pods_are_not_listed_but_there(run):
    status, out, _ = run("kubernetes", "--help")
    listed = {line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line.strip()}
    assert status == 0
    assert {"install", "uninstall", "status", "forward", "manifests", "chart"} <= listed
    assert listed <= {name for name, (_, text) in COMMANDS.items() if text}
    assert {"control", "gateway", "gateway-agent", "gateway-drain"} & listed == set()


def test_an_unknown_command_is_a_usage_error(run):
    assert run("kubernetes", "instal")[0] == 2


def test_manifests_are_yaml_or_json(run):
    status, out, _ = run("kubernetes", "manifests", "--image", "rescoldo:1", "-n", "blue", "--workers", "3")
    objects = list(yaml.safe_load_all(out))
    assert status == 0
    workers = {o["metadata"]["namespace"]: o["spec"]["replicas"] for o in objects if
               (o["kind"], o["metadata"]["name"]) == ("Deployment", "rescoldo-worker")}  # fmt: skip
    assert workers == {"openfaas-fn": 3, "blue": 3}
    listed = json.loads(run("kubernetes", "manifests", "--image", "rescoldo:1", "-n", "blue", "--workers", "3",
                            "--json")[1])  # fmt: skip
    assert listed["items"] == objects


def test_flags_win_over_settings_and_settings_over_a_file(run, tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text("image: file:1\nworker: {replicas: 4}\ngateway: {replicas: 4}\ncontrol: {storage: {size: 9Gi}}\n")
    flags = ("--values", str(file), "--set", "worker.replicas=5", "--set", "gateway.replicas=5", "--gateways", "6",
             "--pull-policy", "Never", "--storage-class", "fast")  # fmt: skip
    objects = {(o["kind"], o["metadata"]["name"]): o["spec"] for o in json.loads(run("kubernetes", "manifests", *flags,
               "--json")[1])["items"] if "spec" in o}  # fmt: skip
    assert objects["Deployment", "rescoldo-worker"]["replicas"] == 5
    assert objects["Deployment", "rescoldo-gateway"]["replicas"] == 6
    claim = objects["PersistentVolumeClaim", "rescoldo-control"]
    assert (claim["storageClassName"], claim["resources"]["requests"]["storage"]) == ("fast", "9Gi")
    container = objects["Deployment", "rescoldo-control"]["template"]["spec"]["containers"][0]
    assert (container["image"], container["imagePullPolicy"]) == ("file:1", "Never")


def test_an_image_is_needed_and_the_error_says_where_it_comes_from(run):
    status, _, err = run("kubernetes", "manifests")
    assert status == 1 and "give rescoldo's image (--image); `rescoldo kubernetes image` makes one" in err


def test_a_chart_is_written_with_the_flags_as_its_defaults(run, tmp_path):
    status, out, _ = run("kubernetes", "chart", str(tmp_path / "chart"), "--workers", "7")
    assert (status, out) == (0, f"Wrote a chart into {tmp_path}/chart.\n")
    assert yaml.safe_load((tmp_path / "chart/values.yaml").read_text())["worker"]["replicas"] == 7
    files = json.loads(run("kubernetes", "chart", str(tmp_path / "chart"), "--json")[1])["files"]
    assert str(tmp_path / "chart/Chart.yaml") in files


def test_an_installation_is_tried_and_its_password_saved(run, cluster, door, home):
    status, out, err = run(*INSTALL)
    assert status == 0, err
    assert out.splitlines()[-1] == f"export OPENFAAS_URL={door.url}"
    assert "ok      version: Kubernetes v1.36.3" in err
    assert "a function was deployed and answered" in err
    assert [call.headers.get("Authorization") for call in door.calls if "/system/" in call.path] == [HEADER] * (
        len([call for call in door.calls if "/system/" in call.path])
    )
    assert door.calls[-1].line == "DELETE /system/functions"
    saved = yaml.safe_load((home / ".openfaas/config.yml").read_text())["auths"]
    assert [(each["gateway"], f"Basic {each['token']}") for each in saved] == [(door.url, HEADER)]


def test_it_tells_scripts_everything(run, cluster, door):
    status, out, _ = run(*INSTALL, "--no-probe", "--json")
    told = json.loads(out)
    assert (status, told["gateway"], told["username"], told["probe"]) == (0, door.url, "admin", None)
    assert {each["state"] for each in told["objects"]} == {"created"}
    assert "open sesame" not in out
    assert not door.changes()


def test_a_probe_function_that_fails_is_removed_and_the_reason_told(run, cluster, door):
    door.answers.pop(f"GET /function/{PROBE}")
    door.answer(f"GET /function/{PROBE}", 503, b"no worker takes calls")
    status, _, err = run(*INSTALL)
    assert status == 1 and "the function rescoldo-probe answered 503: no worker takes calls" in err
    assert door.calls[-1].line == "DELETE /system/functions"


def test_a_password_that_is_refused_is_told(run, cluster, door):
    door.answers.pop("GET /system/functions")
    door.answer("GET /system/functions", 401)
    status, _, err = run(*INSTALL)
    assert status == 1 and "does not take the password of the secret rescoldo-login" in err


def test_a_control_that_gateways_do_not_reach_yet_is_waited_for(run, cluster, door, monkeypatch):
    monkeypatch.setattr("rescoldo.cli.probing.POLL_SECONDS", 0.01)
    door.answers.pop("GET /system/functions")
    door.answer("GET /system/functions", 503)
    door.answer("GET /system/functions", 200, [])
    assert run(*INSTALL, "--no-probe")[0] == 0
    door.answers["GET /system/functions"] = [(503, b"", {})]
    status, _, err = run(*INSTALL[:-1], "1s", "--no-probe")
    assert status == 1 and "/system answers 503 after 1 s: control is not reached" in err


def test_a_cluster_that_lacks_something_is_not_changed(run, cluster, door):
    cluster.git_version = "v1.29.0"
    status, _, err = run(*INSTALL)
    assert status == 1
    assert "FAILED  version: Kubernetes v1.29.0 is too old" in err and "nothing was changed" in err
    assert names(cluster) == []
    assert run(*INSTALL, "--no-checks", "--no-probe")[0] == 0
    assert len(names(cluster)) == 3


def test_a_dry_run_shows_what_would_happen(run, cluster):
    status, out, _ = run(*INSTALL, "--dry-run")
    assert status == 0 and "would be created" in out
    assert names(cluster) == []
    cluster.git_version = "v1.29.0"
    assert run(*INSTALL, "--dry-run")[0] == 1


def test_without_an_address_a_port_is_forwarded_for_the_probe(run, cluster, door, kubectl, monkeypatch, home):
    async def none(*_: object) -> list[Door]:
        return []

    monkeypatch.setattr("rescoldo.install.reaching.find_doors", none)
    port = door.url.rpartition(":")[2]
    log = kubectl(f"Forwarding from 127.0.0.1:{port} -> 8080")
    status, out, err = run(*INSTALL, "--context", "mine")
    assert status == 0, err
    assert log.read_text() == "--context mine --namespace rescoldo port-forward service/rescoldo-gateway 0:80"
    assert out.splitlines()[-1] == "rescoldo kubernetes forward --system-namespace rescoldo"
    assert not (home / ".openfaas/config.yml").exists()


@pytest.mark.parametrize("line", ["error: unable to forward port", ""])
def test_a_kubectl_that_fails_is_told(run, cluster, door, kubectl, monkeypatch, line):
    async def none(*_: object) -> list[Door]:
        return []

    monkeypatch.setattr("rescoldo.install.reaching.find_doors", none)
    kubectl(line, "sys.exit(1)")
    status, _, err = run(*INSTALL)
    assert status == 1 and f"kubectl port-forward does not work: {line or 'it says nothing'}" in err


def test_without_kubectl_the_ways_are_told(run, cluster, door, monkeypatch, tmp_path):
    async def none(*_: object) -> list[Door]:
        return []

    monkeypatch.setattr("rescoldo.install.reaching.find_doors", none)
    monkeypatch.setenv("PATH", str(tmp_path))
    status, _, err = run(*INSTALL)
    assert status == 1 and "there is no kubectl" in err and "gateway.service.type=NodePort" in err


def test_status_shows_parts_and_problems_in_its_exit_status(run, cluster, door, home):
    status, _, err = run("kubernetes", "status")
    assert status == 1 and "rescoldo is not installed in namespace rescoldo" in err
    run(*INSTALL, "--no-probe")
    status, out, _ = run("kubernetes", "status", "--login")
    assert (status, out.splitlines()[2].split()) == (0, ["control", "rescoldo", "1/1", "rescoldo:1"])
    assert out.splitlines()[-1] == f"export OPENFAAS_URL={door.url}"
    cluster.stuck = {"rescoldo-worker"}
    counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas", "readyReplicas"), 0)
    asyncio.run(cluster.patch(DEPLOYMENTS, "rescoldo-worker", {"status": counts}, "openfaas-fn"))
    status, out, _ = run("kubernetes", "status")
    assert status == 1 and "! no pod exists in openfaas-fn" in out
    told = json.loads(run("kubernetes", "status", "--json")[1])
    assert (told["ready"], [part["ready"] for part in told["parts"]]) == (False, [1, 2, 0])


def test_status_without_a_way_says_how_to_get_one(run, cluster, door, monkeypatch):
    run(*INSTALL, "--no-probe")

    async def none(*_: object) -> list[Door]:
        return []

    monkeypatch.setattr("rescoldo.install.reaching.find_doors", none)
    status, _, err = run("kubernetes", "status", "--login")
    assert status == 0 and "use: rescoldo kubernetes forward" in err


def test_forwarding_ends_with_ctrl_c_and_forgets_the_password(run, cluster, gateway, kubectl, home, monkeypatch):
    port = gateway.url.rpartition(":")[2]
    kubectl(f"Forwarding from 127.0.0.1:{port} -> 8080")
    seen = []

    def interrupted(self: object) -> None:
        seen.append((home / ".openfaas/config.yml").read_text())
        raise KeyboardInterrupt

    monkeypatch.setattr("rescoldo.cli.forwarding.Forward.wait", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    try:
        status, out, _ = run("kubernetes", "forward", "--port", port)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (status, out) == (130, f"The gateway answers at http://127.0.0.1:{port} until Ctrl-C.\n")
    assert f"http://127.0.0.1:{port}" in seen[0]
    assert yaml.safe_load((home / ".openfaas/config.yml").read_text())["auths"] == []


def test_uninstalling_needs_a_yes(run, cluster, door, stdin):
    run(*INSTALL, "--no-probe")
    stdin(b"")
    status, _, err = run("kubernetes", "uninstall")
    assert status == 2 and "give --yes" in err
    assert len(names(cluster)) == 3


def test_uninstalling_leaves_nothing_and_forgets_the_password(run, cluster, door, home):
    run(*INSTALL, "--no-probe")
    status, out, _ = run("kubernetes", "uninstall", "--yes")
    assert (status, out) == (0, "Removed rescoldo from rescoldo.\n")
    assert names(cluster) == names(cluster, NAMESPACES) == names(cluster, SECRETS) == []
    assert yaml.safe_load((home / ".openfaas/config.yml").read_text())["auths"] == []
    told = json.loads(run("kubernetes", "uninstall", "--yes", "--json")[1])
    assert told == {"namespace": "rescoldo", "deleted": [], "kept": []}


def test_asked_on_a_terminal_it_shows_what_goes_and_what_stays(run, cluster, door, monkeypatch):
    run(*INSTALL, "--no-probe")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    asked = []
    monkeypatch.setattr("click.confirm", lambda text, **_: asked.append(text))
    status, out, _ = run("kubernetes", "uninstall", "--keep-data")
    assert status == 1
    assert "Will be deleted" in out and "namespace openfaas-fn" in out
    assert "persistentvolumeclaim rescoldo/rescoldo-control: data is kept" in out
    assert asked and asked[0].startswith("Delete these ")
    assert len(names(cluster)) == 3


@pytest.mark.slow
def test_without_the_client_it_says_what_to_install():
    code = (
        "import sys; sys.modules['lightkube'] = None; sys.modules['lightkube.config'] = None;"
        "from rescoldo.cli.main import main; sys.exit(main(['kubernetes', 'status']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "pip install 'rescoldo[kubernetes]'" in done.stderr
