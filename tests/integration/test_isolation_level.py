"""The level of a root whose rights a container has reduced, in the kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rescoldo.isolation.level import level
from rescoldo.isolation.mounts import View, cover_scratch, enter, in_scratch
from rescoldo.model.ids import INSTANCE_UIDS
from rescoldo.model.settings import Settings
from support.children import told_by_child
from support.rights import fewer_rights, refuse

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(level() != "full", reason="needs root that may make namespaces"),
]

LOOK = """
from rescoldo.isolation.identity import priority_can_rise
from rescoldo.isolation.level import level, obstacle
print(level(), priority_can_rise(), obstacle(), sep="|")
"""
UID = INSTANCE_UIDS[-1]


def told(*options: str) -> list[str]:
    """Return what a process with fewer rights finds: level, whether its priority can rise, obstacle."""
    command = [*fewer_rights(*options), sys.executable, "-c", LOOK]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip().split("|")


@pytest.mark.parametrize(
    ("options", "failure"),
    [
        (["--drop", "sys_admin"], "unshare: Operation not permitted"),
        (["--drop", "setuid"], f"become uid {UID}: Operation not permitted"),
        (["--drop", "chown"], f"chown to uid {UID}: Operation not permitted"),
        (["--drop", "dac_override"], f"chmod and use of a folder of uid {UID}: Permission denied"),
        (["--drop", "kill"], "kill: Operation not permitted"),
        (["--refuse", "mount"], "mount on /: Operation not permitted"),
        (["--refuse", "pivot_root", "--refuse", "chroot"], "chroot: Operation not permitted"),
        (["--ids", "20500"], "the user namespace maps fewer than 1,000 ids for instances"),
    ],
)
def test_the_level_is_not_full_where_a_call_that_it_needs_fails(options: list[str], failure: str) -> None:
    found, _, text = told(*options)
    assert (found, text) == ("unprivileged", failure)


@pytest.mark.parametrize(
    ("options", "rises"),
    [
        ([], "True"),
        (["--refuse", "pivot_root"], "True"),  # as RuntimeDefault does
        (["--drop", "sys_nice"], "False"),
        (["--ids", "65536"], "False"),  # as hostUsers: false does
        (["--ids", "65536", "--refuse", "pivot_root"], "False"),
    ],
)
def test_the_level_is_full_without_pivot_root_priorities_and_high_uids(options: list[str], rises: str) -> None:
    assert told(*options) == ["full", rises, ""]


def test_where_pivot_root_is_refused_a_root_cannot_leave_its_new_root_by_the_usual_way_out_of_a_chroot() -> None:
    def escape() -> list[str]:
        refuse("pivot_root")
        cover_scratch(in_scratch(enter(View())))
        outside = os.open("/", os.O_RDONLY)
        Path("/tmp/inner").mkdir()
        os.chroot("/tmp/inner")
        os.fchdir(outside)
        os.chdir("../" * 20)
        os.chroot(".")
        return sorted({"home", "root", "run", "usr"} & {path.name for path in Path("/").iterdir()})

    assert Path("/run").exists() and told_by_child(escape) in ("['usr']", "['root', 'usr']")  # /root: the interpreter


def test_a_platform_of_a_root_without_rights_says_what_it_needs(tmp_path: Path) -> None:
    settings = Settings(str(tmp_path / "data"), str(tmp_path / "run"))
    settings.save(tmp_path / "settings.json")
    serve = [sys.executable, "-m", "rescoldo.supervisor.main", str(tmp_path / "settings.json")]
    done = subprocess.run([*fewer_rights("--drop", "sys_admin"), *serve], capture_output=True, text=True, timeout=60)
    assert done.returncode == os.EX_CONFIG
    assert "(unshare: Operation not permitted)" in done.stderr and "start rescoldo as another user" in done.stderr
