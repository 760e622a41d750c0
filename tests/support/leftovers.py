"""Finds what a platform leaves on a machine: processes, sockets, folders, mounts, cgroups, rules. Nothing may stay.

    with Live() as live, no_leftovers(live):
        ... break it, stop it, start it ...

Other platforms may run at the same time. This platform's name in a path or command line tells its leftovers from
theirs; nft rules and BPF programs are compared only while no other platform runs. The workers of one test run have
platforms at the same time, so nft rules and BPF programs are compared once more after all tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support.live import Live

PATIENCE = 10.0  # seconds until killed processes must be gone
OURS = ("-m rescoldo.", "guardian.py", "/rl-")  # in the command lines of every platform's processes


@contextmanager
def no_leftovers(live: Live) -> Iterator[None]:
    """Close the platform at the end; fail if something of it remains after PATIENCE seconds."""
    before = shared()
    yield
    uids = uids_of(live)
    live.close()
    marks = marks_of(live)
    left = what_stays(lambda: left_of(live, uids) | (set() if others(marks) else shared() - before))
    assert not left, "left behind:\n" + "\n".join(sorted(left))


def what_stays(left: Callable[[], set[str]]) -> set[str]:
    """Return what remains after PATIENCE seconds; returns at once when nothing is left."""
    deadline = time.monotonic() + PATIENCE
    while (found := left()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def marks_of(live: Live) -> tuple[str, str]:
    """Return texts that only this platform's command lines contain."""
    return live.settings.run, str(live.folder)


def uids_of(live: Live) -> set[int]:
    """Return the uids of the platform's instances from its node's notes."""
    found = set()
    for note in live.settings.instance_state.glob("*.json"):
        with suppress(OSError, ValueError):
            found.add(json.loads(note.read_text())["uid"])
    return found - {None}


def left_of(live: Live, uids: set[int]) -> set[str]:
    """Return a line for each process, socket, mount and folder of this platform; `uids` are those of its instances."""
    marks = marks_of(live)
    found = {
        f"process {pid} {name} uid {uid}: {command[:200]}"
        for pid, name, uid, command in processes()
        if uid in uids or any(mark in command for mark in marks)
    }
    for kind, file in (("socket", "/proc/net/unix"), ("mount", "/proc/self/mounts")):
        lines = Path(file).read_text().splitlines()
        found |= {f"{kind} {line}" for line in lines if any(mark in line for mark in marks)}
    found |= {f"cgroup {path}" for path in cgroups() if live.settings.run_path.name in path}
    return found | {f"folder {mark}" for mark in marks if Path(mark).exists()}


def cgroups() -> list[str]:
    """Return the cgroups of platforms, which are named after the runtime directory."""
    return [
        f"{folder}/{name}"
        for folder, names, _ in os.walk("/sys/fs/cgroup")  # unlike glob, os.walk tolerates folders that vanish
        for name in names
        if name.startswith("rescoldo")
    ]


def others(marks: tuple[str, ...] = ()) -> list[int]:
    """Return the processes of platforms, except the one with `marks`."""
    return [
        pid
        for pid, _, _, command in processes()
        if any(ours in command for ours in OURS) and not any(mark in command for mark in marks)
    ]


def processes() -> Iterator[tuple[int, str, int, str]]:
    """Yield pid, name, real uid, and command line with working directory of each process that has not ended."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            status = dict(line.split(":\t", 1) for line in (entry / "status").read_text().splitlines() if ":\t" in line)
            if status["State"][0] in "ZX":
                continue
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            with suppress(OSError):
                command += f" in {(entry / 'cwd').readlink()}"
            yield int(entry.name), status["Name"], int(status["Uid"].split()[0]), command


def shared() -> set[str]:
    """Return what platforms create in shared places: nft tables and BPF programs (a link keeps its program alive)."""
    found = {f"bpf pin {path}" for path in Path("/sys/fs/bpf").glob("**/rescoldo*")}
    found |= {f"nft {line}" for line in _output("nft", "list", "tables").splitlines() if "rescoldo" in line}
    programs = _output("bpftool", "--json", "prog", "list")
    for program in json.loads(programs) if programs.startswith("[") else []:
        if str(program.get("name", "")).startswith("rescoldo"):
            found.add(f"bpf program {program['id']} {program['name']}")
    return found


_BEFORE = pytest.StashKey[set[str]]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Record the shared places before the first test."""
    session.config.stash[_BEFORE] = shared()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail if the tests left something in shared places. Only pytest-xdist's controller checks this, after its
    workers."""
    if hasattr(session.config, "workerinput"):
        return
    left = what_stays(lambda: set() if others() else shared() - session.config.stash[_BEFORE])
    if left:
        print("\nleft behind:", *sorted(left), sep="\n")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _output(*command: str) -> str:
    """Return a tool's output; empty if the tool is not installed."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
