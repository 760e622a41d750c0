"""How `rescoldo watch` handles code that does not start, against a gateway that records its requests."""

import json
from pathlib import Path

import pytest

from rescoldo.cli.flags import DeployFlags, Selection
from rescoldo.cli.gateway import Gateway
from rescoldo.cli.project import load_project
from rescoldo.cli.watched import Report, WatchedDeployments
from rescoldo.model.errors import RescoldoError

FLAGS = DeployFlags("", "", (), (), (), (), (), "", "", "", "", False, None, False)
SCALE = "POST /system/scale-function/hello"
ROLLBACK = "POST /system/function/hello/rollback"
STACK = "provider: {name: openfaas}\nfunctions:\n  hello: {lang: python3-http, handler: ./hello, image: 'hello:1'}\n"


def save(text: str) -> None:
    Path("hello").mkdir(exist_ok=True)
    Path("hello/handler.py").write_text(f"def handle(event, context):\n    return {text!r}\n")


@pytest.fixture
def rollout(gateway):
    """A rollout to a gateway that has all bundles."""
    Path("stack.yaml").write_text(STACK)
    save("one")
    for line in ("POST /system/bundles", "PUT /system/functions"):
        gateway.answer(line, 200)
    with Gateway(gateway.url) as opened:
        yield WatchedDeployments(opened, FLAGS, Report(True), fresh=False)


def events(capfd) -> list[dict]:
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def tagged(gateway) -> list[str]:
    return [line.partition("digest=")[2] for line in gateway.lines() if line.startswith("POST /system/bundles")]


def test_a_save_that_does_not_start_is_rolled_back_and_reported(rollout, gateway, capfd):
    project = load_project(Selection())
    gateway.answer(SCALE, 202)
    gateway.answer(SCALE, 502, b"ImportError: no such thing")
    gateway.answer(ROLLBACK, 200, {"revision": 3})
    rollout.first(project)
    save("two")
    rollout.again(project, list(project.functions), 0.0)
    good, bad = events(capfd)
    assert (good["event"], bad["event"], bad["serving"]) == ("deployed", "failed", True)
    assert "ImportError: no such thing" in bad["problem"]
    one, two = tagged(gateway)
    assert one != two
    assert gateway.lines()[-1].partition("?")[0] == ROLLBACK


def test_a_failed_rollback_is_reported(rollout, gateway, capfd):
    project = load_project(Selection())
    gateway.answer(SCALE, 202)
    gateway.answer(SCALE, 502, b"ImportError")
    gateway.answer(ROLLBACK, 500, b"disk full")
    rollout.first(project)
    save("two")
    rollout.again(project, list(project.functions), 0.0)
    bad = events(capfd)[-1]
    assert bad["serving"] is False
    assert all(words in bad["problem"] for words in ("ImportError", "could not be restored", "disk full"))


def test_a_revision_that_failed_the_gateways_check_is_reported_and_watching_continues(rollout, gateway, capfd):
    project = load_project(Selection())
    refused = b"revision 2 did not start: ImportError; revision 1 keeps serving"
    gateway.answers.clear()
    gateway.answer("PUT /system/functions", 400, refused, X_Rescoldo_Rollout="failed")
    rollout.first(project)
    (event,) = events(capfd)
    assert (event["event"], event["serving"], event["problem"]) == ("failed", True, f"hello: {refused.decode()}")
    assert not any(line.startswith(SCALE) for line in gateway.lines())


def test_a_save_that_changes_nothing_deploys_nothing(rollout, gateway, capfd):
    project = load_project(Selection())
    rollout.first(project)
    before = len(gateway.calls)
    save("one")
    rollout.again(project, list(project.functions), 0.0)
    assert len(gateway.calls) == before
    assert [event["event"] for event in events(capfd)] == ["deployed", "unchanged"]


def test_watching_ends_if_the_gateway_refuses_the_password(rollout, gateway):
    gateway.answers["PUT /system/functions"] = [(401, b"", {})]
    with pytest.raises(RescoldoError, match="rescoldo login"):
        rollout.first(load_project(Selection()))


def test_a_refused_first_deployment_is_reported_and_watching_continues(rollout, gateway, capfd):
    gateway.answers["PUT /system/functions"] = [(400, b"no secret token", {})]
    rollout.first(load_project(Selection()))
    (event,) = events(capfd)
    assert event["event"] == "failed" and "no secret token" in event["problem"] and not event["serving"]


def test_a_failed_first_build_is_reported_and_watching_continues(rollout, gateway, capfd):
    Path("hello/handler.py").write_text("def handle(\n")
    rollout.first(load_project(Selection()))
    (event,) = events(capfd)
    assert event["event"] == "failed" and not event["serving"] and "hello/handler.py:1" in event["problem"]
    assert gateway.calls == []
