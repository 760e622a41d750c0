"""A new user's path through the real command: from an empty home to a function that answers, and back."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from support.user import User

pytestmark = pytest.mark.slow


def test_from_an_empty_home_to_an_answer_and_back(user: User) -> None:
    assert "Wrote greet/ and stack.yaml" in user.ok("new", "greet", "--lang", "python3-http")
    assert f"{user.gateway}/function/greet" in user.up()
    (before,) = json.loads(user.ok("list", "--json"))
    assert (before["name"], before["state"], before["invocationCount"]) == ("greet", "ready", 0), "no start was tried"

    assert "Ada" in user.ok("invoke", "greet", stdin="Ada")
    (after,) = json.loads(user.ok("list", "--json"))
    assert after["availableReplicas"] == 1
    assert "greet" in user.ok("list")
    assert "greet:latest" in user.ok("describe", "greet")
    assert json.loads(user.ok("status", "--json"))["functions"] == 1

    user.ok("scale", "greet", "0")
    assert json.loads(user.ok("describe", "greet", "--json"))["availableReplicas"] == 0
    assert "Bob" in user.ok("invoke", "greet", stdin="Bob")

    user.ok("remove", "greet")
    assert json.loads(user.ok("list", "--json")) == []
    assert "greet" in user.fails("invoke", "greet")
    user.ok("down")
    assert "rescoldo up" in user.fails("list")
    assert "No platform runs here" in user.fails("down")


def test_a_handler_that_does_not_start_fails_its_first_deployment_with_the_reason(user: User) -> None:
    user.ok("new", "broken", "--lang", "python3-http")
    user.write("broken/handler.py", "import os\nos._exit(3)\ndef handle(event, context):\n    return 'x'\n")
    words = ("up", "--metrics-address", user.metrics)
    assert "broken.openfaas-fn: exit status 3" in user.fails(*words)
    assert "Failing: exit status 3" in user.ok("list")
    assert "Failing: broken.openfaas-fn: exit status 3" in user.ok("describe", "broken")
    assert "exit status 3" in user.fails("ready", "broken")
    user.write("broken/handler.py", "def handle(event, context):\n    return 'mended'\n")
    user.up()
    assert user.ok("invoke", "broken") == "mended"
    user.ok("scale", "broken", "0")
    assert "Ready" in user.ok("ready", "broken"), "a sleeping function is not ready"
    user.ok("pause", "broken")
    assert "paused" in user.fails("invoke", "broken")
    user.ok("resume", "broken")
    assert user.ok("invoke", "broken") == "mended"


def test_the_next_up_deploys_a_change_and_functions_survive_a_restart(user: User) -> None:
    user.ok("new", "say", "--lang", "python3")
    user.write("say/handler.py", "def handle(req):\n    return 'one ' + req\n")
    user.up()
    assert user.ok("invoke", "say", stdin="x") == "one x"
    user.write("say/handler.py", "def handle(req):\n    return 'two ' + req\n")
    user.up()
    assert user.ok("invoke", "say", stdin="x") == "two x"
    user.ok("down")
    user.ok("serve", "-d", "--gateway-address", user.gateway.removeprefix("http://"), "--metrics-address", user.metrics)
    assert user.ok("invoke", "say", stdin="x") == "two x"


def test_logs_show_a_functions_output_and_traceback(user: User) -> None:
    user.ok("new", "boom", "--lang", "python3-http")
    user.write("boom/handler.py", "print('imported')\ndef handle(event, context):\n    return 1 / 0\n")
    user.up()
    said = user.fails("invoke", "boom")
    assert "500" in said
    assert "ZeroDivisionError" in said
    log = user.ok("logs", "boom", "--no-follow")
    assert "imported" in log
    assert "handler.py" in log
    assert "ZeroDivisionError" in log


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        ("def handle(event, context)\n    pass\n", "bad/handler.py:1:"),
        ("x = 1\n\ndef handle(event, context):\n    return (\n", "bad/handler.py:4:"),
        ("x = 1\n", "defines no `handle`"),
        (None, "it has no handler.py"),
    ],
)
def test_a_handler_that_cannot_work_fails_the_build_and_starts_nothing(
    user: User, handler: str | None, said: str
) -> None:
    user.ok("new", "bad", "--lang", "python3-http")
    if handler is None:
        (user.project / "bad" / "handler.py").unlink()
    else:
        user.write("bad/handler.py", handler)
    assert said in user.fails("up", "--metrics-address", user.metrics)
    assert "No platform runs here" in user.fails("down")


def test_a_missing_handler_folder_fails_the_build_by_name(user: User) -> None:
    user.ok("new", "lost", "--lang", "python3-http")
    shutil.rmtree(user.project / "lost")
    assert "lost: the folder does not exist" in user.fails("up")


@pytest.mark.parametrize(
    ("stack", "place", "said"),
    [
        ("functions:\n  a:\n    lang: python3\n   handler: ./a\n", "stack.yaml:5:", ""),
        ("functions:\n\ta: b\n", "stack.yaml:3:", ""),
        ("functions:\n  a: 5\n", "stack.yaml:3:", ""),
        ("functions:\n  a:\n    lables:\n      x: y\n", "stack.yaml:4:", "labels"),
        ("functions:\n  A_b:\n    lang: python3\n    handler: ./a\n    image: a\n", "stack.yaml:3:", "A_b"),
        ("functions:\n  a:\n    lang: cobol\n    handler: ./a\n    image: a\n", "stack.yaml:3:", "cobol"),
        ("functions:\n  a:\n    lang: python3\n    handler: ./a\n    image: ${\n", "stack.yaml:6:", ""),
        ("\xff\xfe", "stack.yaml", ""),
        ("", "stack file", "rescoldo new"),
    ],
)
def test_the_error_for_a_broken_stack_file_names_file_and_line(user: User, stack: str, place: str, said: str) -> None:
    user.write("a/handler.py", "def handle(req):\n    return req\n")
    (user.project / "stack.yaml").write_bytes(b"provider: {name: openfaas}\n" + stack.encode("latin-1"))
    error = user.fails("up", "--no-start")
    assert place in error
    assert said in error


def test_the_error_without_a_stack_file_names_the_first_command(user: User) -> None:
    assert "rescoldo new" in user.fails("up", status=2)


@pytest.mark.parametrize(
    "requirement", ["./nothing-here.whl", "rescoldo-test @ file:///nonexistent/x.whl", "-r gone.txt", "a==b==c"]
)
def test_requirements_that_cannot_be_installed_fail_the_build(user: User, requirement: str) -> None:
    user.ok("new", "needy", "--lang", "python3-http")
    user.write("needy/requirements.txt", f"{requirement}\n")
    said = user.fails("build")
    assert "needy" in said
    assert "requirements" in said


def test_an_unknown_image_is_refused_with_the_remedy(user: User) -> None:
    user.ok("serve", "-d", "--gateway-address", user.gateway.removeprefix("http://"), "--metrics-address", user.metrics)
    said = user.fails("deploy", "--image", "ghcr.io/somebody/figlet:latest", "--name", "figlet")
    assert "ghcr.io/somebody/figlet:latest" in said
    assert "rescoldo up" in said


def test_store_deploys_an_image_that_was_built_here_and_refuses_a_container(
    user: User,
) -> None:
    image = "ghcr.io/somebody/greet:latest"
    images = {"x86_64": image, "arm64": image}
    functions = [{"name": "greet", "images": images}, {"name": "figlet", "images": {"x86_64": "f", "arm64": "f"}}]
    user.write("store.json", json.dumps({"functions": functions}))
    user.ok("new", "mine", "--lang", "python3-http", "--prefix", "ghcr.io/somebody")
    stack = (user.project / "stack.yaml").read_text()
    user.write("stack.yaml", stack.replace("ghcr.io/somebody/mine:latest", image))
    user.up()
    assert "figlet" in user.ok("store", "list", "--url", "store.json")
    assert "/function/greet" in user.ok("store", "deploy", "greet", "--url", "store.json")
    assert "Ada" in user.ok("invoke", "greet", stdin="Ada")
    assert "which needs a cluster" in user.fails("store", "deploy", "figlet", "--url", "store.json")
    assert {item["name"] for item in json.loads(user.ok("list", "--json"))} == {"mine", "greet"}


def test_up_names_a_taken_port_and_does_not_mistake_its_owner_for_a_platform(user: User) -> None:
    user.ok("new", "greet", "--lang", "python3-http")
    with socket.create_server(("127.0.0.1", int(user.gateway.rpartition(":")[2]))):
        said = user.fails("up", "--metrics-address", user.metrics)
    assert "already in use" in said


def test_the_error_for_a_wrong_password_names_the_remedy(user: User) -> None:
    user.ok("new", "greet", "--lang", "python3-http")
    user.up()
    assert "rescoldo login" in user.fails("list", "--token", "wrong")
    said = user.run("login", "-u", "admin", "--password-stdin", stdin="wrong")
    assert said.returncode == 1
    user.ok("list")


def test_an_asynchronous_call_fails_with_501(user: User) -> None:
    user.ok("new", "greet", "--lang", "python3-http")
    user.up()
    assert "501" in user.fails("invoke", "--async", "greet")


def test_a_secret_and_a_namespace_from_creation_to_removal(user: User) -> None:
    user.ok("new", "greet", "--lang", "python3-http")
    user.up()
    assert "rescoldo secret create api-key" in user.fails("deploy", "--secret", "api-key")
    user.ok("namespace", "create", "dev", "--label", "team=a")
    assert json.loads(user.ok("namespace", "list", "--json")) == ["dev", "openfaas-fn"]
    for namespace in ("openfaas-fn", "dev"):
        user.ok("secret", "create", "api-key", "-n", namespace, stdin="s3cret\n")
        user.ok("deploy", "--secret", "api-key", "--memory-limit", "64Mi", "--namespace", namespace)
        assert json.loads(user.ok("secret", "list", "-n", namespace, "--json")) == [
            {"name": "api-key", "namespace": namespace}
        ]
    shown = user.ok("describe", "greet", "-n", "dev")
    assert re.search(r"^Limits: +memory=64Mi$", shown, re.MULTILINE)
    assert re.search(r"^Secrets: +api-key$", shown, re.MULTILINE) and "s3cret" not in shown
    assert "exists already" in user.fails("secret", "create", "api-key", "--from-literal", "s3cret")
    user.ok("secret", "update", "api-key", "-n", "dev", stdin="new")
    assert "greet" in user.fails("secret", "remove", "api-key", "-n", "dev")
    assert "still holds functions" in user.fails("namespace", "remove", "dev")
    user.ok("remove", "greet", "-n", "dev")
    user.ok("secret", "remove", "api-key", "-n", "dev")
    user.ok("namespace", "remove", "dev")
    assert "'dev' does not exist" in user.fails("namespace", "get", "dev")


def test_serve_in_the_foreground_ends_with_status_0_on_sigterm_and_ctrl_c(user: User) -> None:
    for number in (15, 2):
        command = [sys.executable, "-m", "rescoldo.cli", "serve", "--metrics-address", user.metrics,
                   "--gateway-address", user.gateway.removeprefix("http://")]  # fmt: skip
        with subprocess.Popen(command, env=user.environment, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if "ready at" in line:
                    break
            process.send_signal(number)
            rest = process.stderr.read()
            assert process.wait(30) == 0, rest
            assert "Traceback" not in rest


@pytest.mark.parametrize(
    "words", [["bogus"], ["invoke"], ["serve", "--port", "0"], ["serve", "--gateway-address", "x"]]
)
def test_a_wrong_command_line_exits_with_status_2(user: User, words: list[str]) -> None:
    assert user.fails(*words, status=2)


def test_serve_ends_with_the_reason_when_its_data_cannot_be_used(user: User) -> None:
    addresses = ("--gateway-address", user.gateway.removeprefix("http://"), "--metrics-address", user.metrics)
    user.ok("serve", "-d", *addresses)
    assert "rescoldo down" in user.fails("serve", *addresses)
    user.ok("down")
    database = user.data / "rescoldo.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version = 999")
    assert "newer rescoldo" in user.fails("serve", *addresses, status=78)
    assert "newer rescoldo" in user.fails("serve", "-d", *addresses)
    user.write("file", "")
    assert "--data" in user.fails("serve", "--data", "file", *addresses, status=2)
    assert "--data" in user.fails("serve", "--data", "file/below", *addresses)
