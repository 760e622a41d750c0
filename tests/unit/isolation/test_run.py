from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from rescoldo.isolation.identity import has_processes, kill_all_of
from rescoldo.isolation.level import level
from rescoldo.isolation.run import unprivileged_command
from support.unprivileged import UID

pytestmark = pytest.mark.slow
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def run(script: str, folder: Path, timeout: float = 20.0, **visible: list[Path]) -> tuple[int, list[str]]:
    lines: list[str] = []
    status = unprivileged_command(
        [sys.executable, "-I", "-c", script],
        uid=UID,
        gid=UID,
        env={"PATH": "/usr/bin:/bin", "ONLY": "this"},
        cwd=folder,
        on_line=lines.append,
        timeout=timeout,
        **{"visible_write": [folder], **visible},
    )
    return status, lines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if os.geteuid() == 0:
        os.chown(tmp_path, UID, UID)
    return tmp_path


def test_output_of_both_streams_and_the_exit_status_arrive(folder: Path) -> None:
    script = "import sys; print('out', flush=True); sys.stderr.write('err'); sys.exit(3)"
    assert run(script, folder) == (3, ["out", "err"])


def test_the_status_of_a_command_ended_by_a_signal_names_the_signal(folder: Path) -> None:
    assert run("import os; os.kill(os.getpid(), 9)", folder) == (-9, [])


def test_the_environment_and_the_current_directory_are_those_given(folder: Path) -> None:
    _, (env, cwd) = run("import os; print(sorted(os.environ)); print(os.getcwd())", folder)
    assert set(eval(env)) - {"LC_CTYPE"} == {"PATH", "ONLY"}
    assert cwd == str(folder)


@pytest.mark.root
@needs_root
def test_a_command_started_as_root_has_no_rights_sees_no_home_and_writes_only_where_allowed(folder: Path) -> None:
    script = """
import os, sys
print(os.getresuid() + os.getresgid(), os.getgroups())
pythons = (sys.prefix, sys.base_prefix, sys.executable)  # may be there
print([name for name in os.listdir('/root') if not any(python.startswith(f'/root/{name}/') for python in pythons)])
for path in ('here', '/tmp/there', '/root/x', '/usr/x'):
    try:
        open(path, 'w').close()
        print(path, 'written')
    except OSError:
        print(path, 'refused')
import xml.dom.minidom, ssl
"""
    status, lines = run(script, folder)
    uid = UID
    assert status == 0, lines
    assert lines[0] == f"{(uid,) * 6} []"
    assert lines[1:] == ["[]", "here written", "/tmp/there written", "/root/x refused", "/usr/x refused"]
    assert (folder / "here").stat().st_uid == uid
    assert not Path("/tmp/there").exists()


@pytest.mark.root
@needs_root
def test_a_folder_below_tmp_is_visible_only_if_named(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    other.chmod(0o755)
    script = f"import os; print(os.path.exists({str(other)!r}))"
    assert run(script, folder)[1] == ["False"]
    assert run(script, folder, visible_read=[other])[1] == ["True"]


def test_a_command_that_takes_too_long_is_killed(folder: Path) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        run("import time; time.sleep(60)", folder, timeout=0.5)
    assert time.monotonic() - began < 5


def test_a_command_that_cannot_be_found_is_named(folder: Path) -> None:
    if level() != "full":
        pytest.skip("without root the error is subprocess's own")
    lines: list[str] = []
    status = unprivileged_command(
        ["no-such-program"], uid=UID, gid=UID, env={}, cwd=folder,
        visible_write=[folder], on_line=lines.append, timeout=10,
    )  # fmt: skip
    assert status == 127
    assert "no-such-program" in lines[0]


@pytest.mark.root
@needs_root
def test_every_process_of_a_uid_is_killed() -> None:
    uid = 0x7000_0000 + 99_999
    read, write = os.pipe()
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            os.setsid()
            os.setresuid(uid, uid, uid)
            os.write(write, b"x")
            time.sleep(60)
            os._exit(0)
        children.append(child)
        os.read(read, 1)
    assert has_processes(uid)
    kill_all_of(uid)
    assert [os.WTERMSIG(os.waitpid(child, 0)[1]) for child in children] == [9, 9, 9]
    assert not has_processes(uid)
    os.close(read)
    os.close(write)
