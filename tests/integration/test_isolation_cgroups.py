"""The place of groups in cgroup v2, on a machine with its controllers in v2: scripts/cgroup2."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from rescoldo.isolation.cgroups import CONTROLLERS

TOP = Path("/sys/fs/cgroup")


def has_controllers() -> bool:
    file = TOP / "cgroup.controllers"
    return file.exists() and set(CONTROLLERS) <= set(file.read_text().split())


pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(
        os.geteuid() != 0 or not has_controllers(), reason="needs root and the controllers in cgroup v2"
    ),
]

FIND = "import sys; from rescoldo.isolation.cgroups import find_base; print(find_base(sys.argv[1]).folders['memory'])"
# in a cgroup namespace, as in a container, a process's own group is the highest
IN_CONTAINER = """
echo $$ >"$1/cgroup.procs" || exit
exec unshare --cgroup --mount sh -ec '
  umount /sys/fs/cgroup
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  for _ in 1 2; do "$0" -c "$1" "$2"; done' "$2" "$3" "$4"
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A group of the test's own, below a group that allows its children limits."""
    (TOP / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in CONTROLLERS))
    made = TOP / f"test-{uuid.uuid4().hex}"
    made.mkdir()
    yield made
    for folder, _, _ in os.walk(made, topdown=False):
        Path(folder).rmdir()


def test_a_container_with_processes_in_its_highest_group_gets_limits(group: Path) -> None:
    command = ["sh", "-c", IN_CONTAINER, "sh", group, sys.executable, FIND, "rescoldo-test"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.stdout.split() == [f"{TOP}/rescoldo-test"] * 2, found.stderr
    assert set(CONTROLLERS) <= set((group / "rescoldo-test" / "cgroup.controllers").read_text().split())


def test_groups_are_made_at_the_top_if_our_own_group_has_processes(group: Path) -> None:
    base = TOP / f"{group.name}-x"
    command = [
        "sh",
        "-ec",
        'echo $$ >"$1/cgroup.procs"; "$2" -c "$3" "$4"',
        "sh",
        group,
        sys.executable,
        FIND,
        base.name,
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(base)
    base.rmdir()
