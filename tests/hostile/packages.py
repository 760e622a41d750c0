"""Attacks by a package's own code, as pip or uv would run it while they install requirements."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hostile.suite import attack, take
from hostile.world import Outcome, World
from rescoldo.bundle.installer import run_installer

_CODE = """
import json, sys
sys.path[:0] = [{library!r}, *{paths!r}]
from attacker import environment, files, ipc, kernel, network, processes
from attacker.kit import perform
with open("target.json") as file:
    TARGET = json.load(file)
for name in {names!r}:
    print("REPORT", json.dumps(perform(name, TARGET)))
"""


def _install(world: World, outcome: Outcome, names: Sequence[str]) -> None:
    """Make functions' attacks in an installation. Its code only sees its own files, so copy the attacker's files
    there."""
    target = world.target()
    target["level"] = "build"
    with tempfile.TemporaryDirectory(prefix="hostile-build-") as name:
        folder = Path(name)
        package = folder / "attacker"
        package.mkdir()
        for file, content in world.attackers_files().items():
            (package / file).parent.mkdir(parents=True, exist_ok=True)
            (package / file).write_bytes(content)
        (folder / "target.json").write_text(json.dumps(target))
        paths = [path for path in sys.path if path.endswith(("-packages", "/src"))]
        code = _CODE.format(library=str(folder), paths=paths, names=list(names))
        lines: list[str] = []
        status = run_installer([sys.executable, "-c", code], folder, lines.append)
    reports = [line.removeprefix("REPORT ") for line in lines if line.startswith("REPORT ")]
    outcome.judge("were made at all", status == 0 and len(reports) == len(names), "\n".join(lines)[-400:])
    for report in reports:
        take(outcome, report)


@attack("packages", "reads functions' code and secrets, the platform's data, homes", unprivileged=False)
def package_reads(world: World, outcome: Outcome) -> None:
    _install(world, outcome, ["another_functions_code", "another_functions_secrets", "another_functions_scratch",
                              "the_platforms_data", "homes_and_services"])  # fmt: skip


@attack("packages", "writes to functions' code, the interpreter or the system", unprivileged=False)
def package_writes(world: World, outcome: Outcome) -> None:
    _install(world, outcome, ["another_functions_code_written", "the_interpreter", "the_system"])


@attack("packages", "attacks processes of functions and of the platform", unprivileged=False)
def package_and_processes(world: World, outcome: Outcome) -> None:
    _install(world, outcome, ["foreign_memory", "foreign_roots", "signals", "limits_of_others", "vm_calls", "pidfds"])


@attack("packages", "connects to sockets and ports of functions and of the platform", unprivileged=False)
def package_connects(world: World, outcome: Outcome) -> None:
    _install(world, outcome, ["instance_sockets", "platform_sockets", "anothers_port", "anothers_port_by_ipv6",
                              "anothers_port_by_fast_open", "system_routes"])  # fmt: skip


@attack("packages", "gains the installer's environment or root", unprivileged=False)
def package_identity(world: World, outcome: Outcome) -> None:
    outcome.judge("the tests run as root", os.geteuid() == 0, os.geteuid())
    _install(world, outcome, ["environment", "another_user"])
