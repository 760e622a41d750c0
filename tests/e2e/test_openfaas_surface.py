"""Secrets, namespaces, alerts and the page, through a whole platform."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_kill import Load

from support.gateway import HELLO
from support.live import Live

pytestmark = pytest.mark.slow

READS = (
    "import os\n"
    "ID = os.urandom(8).hex()\n"
    "def handle(event, context):\n"
    "    path = os.environ['secret_mount_path'] + '/key'\n"
    "    return ID + ' ' + (open(path).read() if os.path.exists(path) else 'nothing')\n"
)
VALUE = "s3cret-of-this-test"


@pytest.fixture
def key(platform: Live) -> Iterator[str]:
    """Create a secret in the default namespace; at the end remove it with the functions that name it."""
    assert platform.system("POST", "/secrets", {"name": "key", "value": VALUE}).status == 202
    yield "key"
    for function in json.loads(platform.system("GET", "/functions").text):
        if "key" in function.get("secrets", []):
            assert platform.system("DELETE", "/functions", {"functionName": function["name"]}).status == 202
    assert platform.system("DELETE", "/secrets", {"name": "key"}).status == 202


def test_only_the_platforms_user_can_read_a_secrets_file_and_it_survives_a_restart(tmp_path: Path) -> None:
    with Live() as live:
        assert live.system("POST", "/secrets", {"name": "key", "value": VALUE}).status == 202
        file = live.settings.function_secrets / "openfaas-fn" / "key"
        assert file.read_text() == VALUE
        assert [stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent, file.parent.parent)] == [
            0o600, 0o700, 0o700,
        ]  # fmt: skip
        live.stop()
        live.start()
        assert json.loads(live.system("GET", "/secrets").text) == [{"name": "key", "namespace": "openfaas-fn"}]
        live.deploy("named", HELLO, secrets=["key"])
        assert live.invoke("named").text == "hello"


def test_a_changed_secret_is_read_at_the_next_wake(platform: Live, key: str) -> None:
    platform.deploy("named", READS, secrets=[key])
    assert platform.invoke("named").text.endswith(VALUE)
    platform.sleep("named")
    assert platform.system("PUT", "/secrets", {"name": key, "value": "new"}).status == 202
    assert platform.replicas("named") == 0
    assert platform.invoke("named").text.endswith(" new")


def test_a_changed_secret_stays_changed_when_the_controller_is_killed(own_platform: Live) -> None:
    live = own_platform
    assert live.system("POST", "/secrets", {"name": "key", "value": "0"}).status == 202
    live.deploy("named", READS, secrets=["key"], annotations={"rescoldo.dev/idle-window": "10m"})
    assert live.invoke("named").text.endswith(" 0")
    for number in range(1, 4):
        assert live.system("PUT", "/secrets", {"name": "key", "value": str(number)}).status == 202
        live.kill("controller")  # instances with the old value may still be ending
        answer = live.invoke("named")
        assert (answer.status, answer.text.split()[1]) == (200, str(number))
        live.until(lambda: live.replicas("named") == 1, "one instance")
        assert live.invoke("named").text.endswith(f" {number}")


def test_no_answer_log_or_file_of_the_run_folder_shows_a_secrets_value(platform: Live, key: str) -> None:
    platform.deploy("named", HELLO, secrets=[key])
    assert platform.invoke("named").status == 200
    seen = [
        platform.system("POST", "/secrets", {"name": key, "value": VALUE}).text,
        platform.system("POST", "/secrets", {"name": "No!", "value": VALUE}).text,
        platform.system("PUT", "/secrets", {"name": key, "value": [VALUE]}).text,
        platform.system("GET", "/secrets").text,
        platform.system("GET", "/functions").text,
        platform.system("GET", "/function/named?usage=1").text,
        platform.system("GET", "/status").text,
        platform.call("GET", "/metrics", headers=platform.authorization()).text,
        platform.call("GET", "/ui/", headers=platform.authorization()).text,
        platform.function_log("named"),
        platform.log(),
    ]
    assert [text for text in seen if VALUE in text] == []
    notes = [path for path in Path(platform.settings.run).rglob("*") if path.is_file()]
    assert [path for path in notes if VALUE.encode() in path.read_bytes()] == []


def test_a_changed_secret_gives_its_functions_new_instances_and_no_call_fails(platform: Live, key: str) -> None:
    platform.deploy("named", READS, secrets=[key], annotations={"rescoldo.dev/idle-window": "10m"})
    platform.deploy("unnamed", READS, annotations={"rescoldo.dev/idle-window": "10m"})
    before, other = platform.invoke("named").text.split(), platform.invoke("unnamed").text
    assert (before[1], other.split()[1]) == (VALUE, "nothing")
    with Load(platform, "named") as load:
        load.more(20)
        assert platform.system("PUT", "/secrets", {"name": key, "value": "new"}).status == 202
        instance, value = platform.invoke("named").text.split()
        assert instance != before[0] and value == "new"
        load.more(20)
    assert load.errors == {}
    assert platform.invoke("unnamed").text == other


def test_a_deployment_without_its_secret_gets_a_400_that_names_the_remedy(platform: Live) -> None:
    platform.upload("hello:test")
    body = {"service": "named", "image": "hello:test", "secrets": ["absent"]}
    answer = platform.system("POST", "/functions", body)
    assert answer.status == 400
    assert "rescoldo secret create absent" in answer.text
    assert platform.system("GET", "/function/named").status == 404


def test_a_secret_in_use_cannot_be_removed(platform: Live, key: str) -> None:
    platform.deploy("named", HELLO, secrets=[key])
    answer = platform.system("DELETE", "/secrets", {"name": key})
    assert answer.status == 409
    assert "named" in answer.text


def test_a_namespace_has_its_own_functions_and_secrets(platform: Live) -> None:
    marks = {"labels": {"openfaas": "1"}, "annotations": {"openfaas": "1"}}
    assert platform.system("POST", "/namespace/", {"name": "blue", **marks}).status == 201
    assert platform.system("POST", "/secrets", {"name": "own", "namespace": "blue", "value": "x"}).status == 202
    platform.deploy("twin", "def handle(event, context):\n    return 'blue'\n", namespace="blue", secrets=["own"])
    platform.deploy("twin", HELLO, image="twin:other")
    assert (platform.invoke("twin.blue").text, platform.invoke("twin").text) == ("blue", "hello")
    assert [item["name"] for item in json.loads(platform.system("GET", "/functions?namespace=blue").text)] == ["twin"]
    assert json.loads(platform.system("GET", "/secrets").text) == []
    assert platform.system("DELETE", "/namespace/blue", {"name": "blue"}).status == 400
    assert platform.system("DELETE", "/functions", {"functionName": "twin", "namespace": "blue"}).status == 202
    assert platform.system("DELETE", "/namespace/blue", {"name": "blue"}).status == 202
    assert not (platform.settings.function_secrets / "blue").exists()
    assert platform.system("GET", "/secrets?namespace=blue").status == 404


def test_an_alert_adds_instances_and_its_end_removes_them(platform: Live) -> None:
    platform.deploy("busy", HELLO, labels={"com.openfaas.scale.max": "4", "com.openfaas.scale.factor": "50"})

    def alert(status: str) -> int:
        body = {"status": status, "alerts": [{"status": status, "labels": {"function_name": "busy.openfaas-fn"}}]}
        return platform.system("POST", "/alert", body).status

    assert alert("firing") == 200
    platform.until(lambda: platform.replicas("busy") == 2, "two instances")
    assert alert("resolved") == 200
    platform.until(lambda: platform.replicas("busy") == 1, "one instance")


def test_the_page_shows_deployed_functions_and_needs_the_password(platform: Live) -> None:
    platform.deploy("shown", HELLO)
    assert platform.call("GET", "/ui/").status == 401
    answer = platform.call("GET", "/ui/", headers=platform.authorization())
    assert answer.status == 200
    assert "<td>shown</td><td>openfaas-fn</td><td>shown:test</td>" in answer.text
    front = platform.call("GET", "/")
    assert (front.status, front.headers["location"]) == (307, "/ui/")


def test_answers_have_a_served_by_header(platform: Live) -> None:
    platform.deploy("shown", HELLO)
    assert platform.invoke("shown").headers["x-served-by"].startswith("rescoldo/")


def test_a_constraint_that_this_machine_does_not_meet_is_refused(platform: Live) -> None:
    platform.upload("hello:test")
    body = {"service": "far", "image": "hello:test", "constraints": ["kubernetes.io/arch=s390x"]}
    answer = platform.system("POST", "/functions", body)
    assert answer.status == 400
    assert "kubernetes.io/arch" in answer.text
