"""The benchmark's tools are installed, or reported as missing before anything is measured."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import run
import tools
from measurements import ALL
from rows import Bar, Measurement, Row

BENCH = Path(run.__file__).parent
COMMANDS = {"wrk": "wrk", "h2load": "h2load", "go_upstream": "go", "vegeta": "go"}  # by the module that runs it


def measure(quick: bool) -> list[Row]:
    raise AssertionError("without its command it cannot be measured")


NEEDY = Measurement("needy", (Bar("a figure", "ms", most=5.0),), measure, ("no-such-command", "sh"))
MODEST = Measurement("modest", (), measure, ("sh",))


def test_a_missing_command_is_requested_once_and_reported_before_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "need"
    script.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\necho "run: apt-get install it"\nexit 1\n')
    script.chmod(0o755)
    monkeypatch.setattr(tools, "NEED", script)
    assert tools.provide([NEEDY, MODEST, NEEDY]) == {"needy": ("no-such-command",), "modest": ()}
    assert (tmp_path / "asked").read_text() == "no-such-command\n"
    said = capfd.readouterr().err
    assert "run: apt-get install it\n" in said
    assert "needy will not be measured: no-such-command is missing" in said


def test_a_command_that_was_then_installed_is_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "need"
    script.write_text(f'#!/bin/sh\ncp {script} {tmp_path}/"$1"\n')
    script.chmod(0o755)
    monkeypatch.setattr(tools, "NEED", script)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert tools.provide([NEEDY]) == {"needy": ()}


def test_a_measurement_without_its_command_is_skipped_and_its_rows_say_why() -> None:
    rows, worked = run.run(NEEDY, True, ["no-such-command"])
    assert not worked
    assert [(row.name, row.value, row.met) for row in rows] == [("a figure", None, False)]
    assert "no-such-command is missing" in rows[0].reference


@pytest.mark.parametrize("measurement", ALL, ids=lambda measurement: measurement.name)
def test_a_measurement_names_the_commands_that_its_function_runs(measurement: Measurement) -> None:
    source = BENCH / f"{measurement.measure.__module__}.py"
    assert set(measurement.needs) == commands_of(source, measurement.measure.__name__)


def commands_of(source: Path, function: str) -> set[str]:
    """The commands behind the names that a module's function uses, directly or through others of the module."""
    tree = ast.parse(source.read_text())
    origin: dict[str, str] = {}  # by name: our module that it is or comes from
    for node in tree.body:
        if isinstance(node, ast.Import):
            origin |= {alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin |= {alias.name: node.module or "" for alias in node.names}
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    seen: set[str] = set()
    todo = [function]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            if name in functions:
                todo += [node.id for node in ast.walk(functions[name]) if isinstance(node, ast.Name)]
    return {COMMANDS[origin[name]] for name in seen if origin.get(name) in COMMANDS}
