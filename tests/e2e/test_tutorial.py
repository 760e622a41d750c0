"""Follows pages of docs/ word by word: their files, their commands and the output."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.gateway import PATIENCE
from support.user import User

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("moving-from-openfaas.md", "writing-functions.md")
BLOCK = re.compile(r"^```(\w+)(?: ([\w./-]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
GATEWAY, METRICS = "http://127.0.0.1:8080", "127.0.0.1:8082"


@dataclass(frozen=True)
class Block:
    kind: str  # sh: commands; text: the output of the commands before it; else: the file `name`
    name: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    for kind, name, text in BLOCK.findall((DOCS / page).read_text()):
        yield Block(kind, name, text)


def typed(user: User, commands: str) -> str:
    """Run commands in a shell; return their output and errors."""
    # the page's own ports may be in use here
    starts = re.sub(r"rescoldo (up|serve)", rf"rescoldo \1 --metrics-address {user.metrics}", commands)
    starts = starts.replace("serve ", f"serve --gateway-address {user.gateway.removeprefix('http://')} ")
    path = f"{Path(sys.executable).parent}:{user.environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", starts.replace(GATEWAY, user.gateway)],
        cwd=user.project, env=user.environment | {"PATH": path}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=2 * PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{commands}\n{done.stdout}"
    return done.stdout.replace(user.gateway, GATEWAY).replace(user.metrics, METRICS)


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work_and_print_its_output(user: User, page: str) -> None:
    said = ""
    ran = 0
    for block in blocks(page):
        if block.name:
            user.write(block.name, block.text)
        elif block.kind == "sh":
            said = typed(user, block.text)
            ran += len(block.text.splitlines())
        else:
            rest = said
            for line in block.text.splitlines():
                assert line in rest, f"{line!r} is not in the rest of:\n{said}"
                rest = rest.partition(line)[2]
    assert ran > 10
