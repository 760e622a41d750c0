"""Builds of faas-cli on a cluster: each in a pod of its own, in the namespace of the functions that it is for."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.faas_builder import HTTP, archive, headers, shrinkwrapped
from support.gateway import HELLO, Answer
from support.installed import Installed, is_ready
from support.spy_package import served
from support.testcluster import KubectlFailed, get, kubectl
from support.witness import HOST

pytestmark = pytest.mark.slow

BUILDS = "app.kubernetes.io/component=build"
TELLS = "import spy\ndef handle(event, context):\n    return spy.SEEN\n"
# what code of packages finds in the pod, and what control says to it
LOOKS = (
    "import http.client, ssl, socket, urllib.request, urllib.error",
    "folder = '/etc/rescoldo/identity/'",
    "def link(path):",
    "    context = ssl.create_default_context(cafile=folder + 'ca.crt')",
    "    context.load_cert_chain(folder + 'tls.crt', folder + 'tls.key')",
    "    asked = http.client.HTTPSConnection('rescoldo-control.rescoldo.svc', 8443, context=context)",
    "    asked.request('GET' if path != '/link/secrets' else 'POST', path, None if path != '/link/secrets' else '[]',",
    "                  {'Content-Type': 'application/json'})",
    "    answer = asked.getresponse()",
    "    return [answer.status, answer.read(60).decode()]",
    "def api(path):",
    "    try:",
    "        url = 'http://rescoldo-control.rescoldo.svc:8080' + path",
    "        return urllib.request.urlopen(url, timeout=10).status",
    "    except urllib.error.HTTPError as error:",
    "        return error.code",
    "def writable(path):",
    "    return os.access(path, os.W_OK)",
    "return {",
    "    'host': socket.gethostname(),",
    "    'uid': os.getuid(),",
    "    'environment': sorted(os.environ),",
    "    'token': os.path.exists('/var/run/secrets/kubernetes.io/serviceaccount'),",
    "    'files': sorted(name for name in os.listdir(folder) if not name.startswith('.')),",
    "    'data': os.listdir('/data'),",
    "    'writable': list(filter(writable, ('/', '/etc', '/usr', '/work'))),",
    "    'link': {path: link(path) for path in ('/link/functions', '/link/secrets', '/link/images/x')},",
    "    'api': {path: api(path) for path in ('/system/functions', '/system/secrets', '/metrics')},",
    "}",
)


@pytest.fixture(scope="module")
def cell(installed: Installed) -> Installed:
    return installed


@pytest.fixture
def no_pods(cell: Installed) -> Iterator[None]:
    """Nothing of a build is left."""
    yield
    cell.until(lambda: pods() == [] and secrets() == [], "the end of all pods of builds")


def pods() -> list[dict[str, Any]]:
    return list(get("pods", "-n", "openfaas-fn", "-l", BUILDS)["items"])


def secrets() -> list[str]:
    return [one["metadata"]["name"] for one in get("secrets", "-n", "openfaas-fn", "-l", BUILDS)["items"]]


def payload_secret(cell: Installed) -> bytes:
    return base64.b64decode(get("secret", "rescoldo-login", "-n", cell.system_namespace)["data"]["payload-secret"])


def build(cell: Installed, body: bytes, path: str = "/build") -> Answer:
    return cell.call("POST", path, body, headers(body, payload_secret(cell)), timeout=120)


def results(answer: Answer) -> list[dict[str, Any]]:
    assert answer.status == 200, answer.text
    return [json.loads(line) for line in answer.body.splitlines()]


def deploy(cell: Installed, name: str, image: str) -> None:
    """Deploy as `faas-cli up` does after the build."""
    answer = cell.system("POST", "/functions", {"service": name, "image": image, "envProcess": "python index.py"})
    assert answer.status in (200, 201, 202), answer.text


def begin(cell: Installed, package: str) -> http.client.HTTPConnection:
    """Begin a build whose package takes a minute, and wait until its pod runs."""
    body = archive(shrinkwrapped({"handler.py": TELLS, "requirements.txt": f"spy @ {package}\n"}), "slow:1")
    connection = cell.connection(timeout=60)
    connection.request("POST", "/build", body, headers(body, payload_secret(cell)))
    cell.until(lambda: any(is_ready(pod) for pod in pods()), "a pod that builds")
    return connection


def test_faas_cli_builds_in_a_pod_and_deploys_a_function_that_answers(cell: Installed, no_pods: None) -> None:
    found = results(build(cell, archive(shrinkwrapped({"handler.py": HTTP}), "ghcr.io/acme/hello:1.0")))
    assert (found[-1]["status"], found[-1]["image"]) == ("success", "ghcr.io/acme/hello:1.0"), found
    assert {one["status"] for one in found[:-1]} == {"in_progress"}
    assert "building in pod openfaas-fn/rescoldo-build-" in str(found)
    deploy(cell, "built", "ghcr.io/acme/hello:1.0")
    assert cell.invoke("built", "Ada").text == "Hello, Ada", cell.log()


def test_code_of_packages_has_nothing_of_control(cell: Installed, no_pods: None, tmp_path: Path) -> None:
    with served(tmp_path, *LOOKS, host=HOST) as package:
        files = {"handler.py": TELLS, "requirements.txt": f"spy @ {package}\n"}
        found = results(build(cell, archive(shrinkwrapped(files), "spied:1")))
    assert found[-1]["status"] == "success", found
    deploy(cell, "spied", "spied:1")
    seen = json.loads(cell.invoke("spied").text)
    assert seen["host"].startswith("rescoldo-build-") and seen["uid"] == 10001
    assert seen["token"] is False and seen["data"] == []  # the folder is in the image
    assert seen["files"] == ["ca.crt", "tls.crt", "tls.key"]
    assert seen["writable"] == ["/work"]
    assert not [name for name in seen["environment"] if "TOKEN" in name or "SECRET" in name or "PASSWORD" in name]
    assert {status for status, _ in seen["link"].values()} == {400}, seen["link"]
    assert set(seen["api"].values()) == {401}


def test_a_build_that_fails_says_why(cell: Installed, no_pods: None) -> None:
    found = results(build(cell, archive({"Dockerfile": "FROM scratch"}, "docker:1")))
    assert found[-1]["status"] == "failed" and "runs no Dockerfile" in found[-1]["error"]
    nothing = f"spy @ http://{HOST}:9/spy-1.0.tar.gz\n"
    found = results(build(cell, archive(shrinkwrapped({"handler.py": TELLS, "requirements.txt": nothing}), "none:1")))
    assert found[-1]["status"] == "failed" and "could not be installed" in found[-1]["error"]


def test_a_namespace_that_holds_no_functions_builds_nothing(cell: Installed, no_pods: None) -> None:
    answer = build(cell, archive(shrinkwrapped({"handler.py": HTTP})), "/build?namespace=kube-system")
    assert answer.status == 400 and "kube-system" in answer.text


def test_a_build_without_its_client_ends(cell: Installed, no_pods: None, tmp_path: Path) -> None:
    with served(tmp_path, "import time", "time.sleep(60)", host=HOST) as package:
        begin(cell, package).close()
        cell.until(lambda: pods() == [], "the end of the pod")


def test_builds_do_not_survive_their_control(cell: Installed, no_pods: None, tmp_path: Path) -> None:
    """It is killed without a chance to delete anything; functions go on meanwhile."""
    cell.deploy("meanwhile", HELLO)
    with served(tmp_path, "import time", "time.sleep(60)", host=HOST) as package:
        connection = begin(cell, package)
        (before,) = cell.names("control")
        kubectl("delete", "pod", before, "-n", cell.system_namespace, "--grace-period=0", "--force", "--wait=false")
        assert cell.invoke("meanwhile").status == 200
        cell.until(lambda: cell.names("control") != [before] and cell.all_ready("control", 1), "another control")
        cell.until(lambda: pods() == [], "the end of the pod")
        connection.close()
    assert results(build(cell, archive(shrinkwrapped({"handler.py": HTTP}), "again:1")))[-1]["status"] == "success"


def test_control_may_make_pods_of_builds_and_no_more(cell: Installed) -> None:
    account = f"--as=system:serviceaccount:{cell.system_namespace}:rescoldo-control"

    def may(verb: str, resource: str, namespace: str, *flags: str) -> bool:
        try:
            return kubectl("auth", "can-i", verb, resource, "-n", namespace, account, *flags).strip() == "yes"
        except KubectlFailed:  # its exit status says no
            return False

    assert may("create", "pods", "openfaas-fn") and may("get", "podtemplates/rescoldo-build", "openfaas-fn")
    assert not may("create", "pods", cell.system_namespace) and not may("create", "pods", "kube-system")
    assert not may("create", "pods", "openfaas-fn", "--subresource=exec")
    assert not may("patch", "podtemplates/rescoldo-build", "openfaas-fn")
