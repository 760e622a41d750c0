"""`rescoldo watch`: new code after a save, and code that does not work."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.gateway import PATIENCE
from support.user import User

pytestmark = pytest.mark.slow

UNDER = 1.0  # seconds from a save to the new code


class Watch:
    """A running `rescoldo watch --json`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def event(self, kind: str) -> dict[str, Any]:
        """Return the next event, which must be of this kind."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"watch ended: {self.process.wait(PATIENCE)}"
        event: dict[str, Any] = json.loads(line)
        assert event["event"] == kind, event
        return event


@contextmanager
def watching(user: User, *words: str) -> Iterator[Watch]:
    command = [sys.executable, "-m", "rescoldo.cli", *words, "--json", "--metrics-address", user.metrics]
    with subprocess.Popen(
        command, cwd=user.project, env=user.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Watch(process)
        finally:
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in said, said
    assert process.returncode == 130


def code(answer: str) -> str:
    return f"def handle(event, context):\n    return {answer!r}\n"


def test_new_code_answers_in_under_a_second_and_broken_code_changes_nothing(user: User) -> None:
    user.ok("new", "greet", "--lang", "python3-http")
    user.write("greet/handler.py", code("zero"))
    with watching(user, "watch") as watch:
        assert watch.event("deployed")["seconds"] is None
        assert watch.event("watching")["names"] == ["greet"]
        took = []
        for answer in ("one", "two", "three"):
            user.write("greet/handler.py", code(answer))
            took.append(watch.event("deployed")["seconds"])
            assert user.ok("invoke", "greet") == answer
        assert min(took) < UNDER, took

        user.write("greet/handler.py", "def handle(event, context)\n")
        failed = watch.event("failed")
        assert "greet/handler.py:1: expected ':'" in failed["problem"]
        assert failed["serving"] is True
        assert user.ok("invoke", "greet") == "three"

        user.write("greet/handler.py", "import nothing_of_that_name\n" + code("four"))
        failed = watch.event("failed")
        assert "No module named 'nothing_of_that_name'" in failed["problem"]
        assert user.ok("invoke", "greet") == "three"

        user.write("greet/handler.py", code("five"))
        watch.event("deployed")
        assert user.ok("invoke", "greet") == "five"


def test_a_saved_stack_file_adds_and_changes_functions(user: User) -> None:
    user.ok("new", "a", "--lang", "python3-http")
    with watching(user, "up", "--watch") as watch:
        watch.event("deployed")
        watch.event("watching")
        user.ok("new", "b", "--lang", "python3-http")
        assert watch.event("deployed")["name"] == "b"
        user.write("b/handler.py", code("b"))
        assert watch.event("deployed")["name"] == "b"
        assert user.ok("invoke", "b") == "b"

        stack = (user.project / "stack.yaml").read_text()
        user.write("stack.yaml", stack + "    lables: {x: y}\n")
        assert "did you mean 'labels'" in watch.event("failed")["problem"]
        (user.project / "stack.yaml").rename(user.project / "stack.old")  # as some editors do before they write
        assert "there is no stack.yaml" in watch.event("failed")["problem"]
        user.write("stack.yaml", stack + "    labels: {x: y}\n")
        assert watch.event("deployed")["name"] == "b"
        assert json.loads(user.ok("describe", "b", "--json"))["labels"]["x"] == "y"


def test_watch_without_a_build_is_a_wrong_command_line(user: User) -> None:
    assert "--watch builds and deploys" in user.fails("up", "--watch", "--skip-build", status=2)
