"""Landlock in the kernel: attempts of a restricted process, and programs that must go on working in it."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rescoldo.isolation import landlock
from rescoldo.isolation.interpreter import needed_directories
from rescoldo.isolation.landlock import DEVICES, SYSTEM
from rescoldo.isolation.syscalls import no_new_privileges
from support.children import run_after, told_by_child
from support.memory import can_forget, forget_names

pytestmark = pytest.mark.skipif(landlock.abi() == 0, reason="this kernel has no Landlock")
needs_ports = pytest.mark.skipif(landlock.abi() < 4, reason="needs Landlock 4 (Linux 6.7)")
needs_scopes = pytest.mark.skipif(landlock.abi() < 6, reason="needs Landlock 6 (Linux 6.12)")
PLAIN = "done"
PSEUDO = [
    path for path in (
        "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg", "/proc/uptime", "/proc/version",
        "/proc/filesystems", "/proc/sys/kernel/hostname", "/proc/sys/vm/overcommit_memory",
        "/proc/sys/net/core/somaxconn", "/sys/devices/system/cpu/online",
        "/sys/kernel/mm/transparent_hugepage/enabled",
    ) if Path(path).exists()
]  # fmt: skip
PR_SET_DUMPABLE = 4


def nothing() -> None:
    pass


def outcome(
    action: Callable[[], object], *, prepare: Callable[[], None] = nothing, restricted: bool = True, **rules: Any
) -> str:
    """Do `action` in a child that `rules` restrict; return PLAIN or the name of the error."""

    def attempt() -> str:
        prepare()
        if restricted:
            no_new_privileges()
            landlock.restrict(**{"read": (), "write": (), **rules})
        action()
        return PLAIN

    return told_by_child(attempt)


def reads(path: str) -> bool:
    """Whether this process may read a file, or list a folder."""
    try:
        return bool(os.listdir(path) if os.path.isdir(path) else Path(path).read_bytes())  # noqa: PTH112, PTH208
    except PermissionError:
        return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("own", "code", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    return tmp_path


def test_only_named_folders_can_be_read(folder: Path) -> None:
    rules = {"read": [str(folder / "code")], "write": [str(folder / "own")]}
    assert outcome((folder / "code" / "file").read_text, **rules) == PLAIN
    assert outcome((folder / "own" / "file").read_text, **rules) == PLAIN
    assert outcome((folder / "other" / "file").read_text, **rules) == "EACCES"
    assert outcome(lambda: os.scandir(folder), **rules) == "EACCES"
    assert outcome(lambda: Path("/etc/shadow").read_bytes(), **rules) == "EACCES"


def test_only_folders_named_for_writing_can_be_written(folder: Path) -> None:
    rules = {"read": [str(folder / "code")], "write": [str(folder / "own")]}
    changes: list[Callable[[Path], object]] = [
        lambda where: (where / "file").write_text("y"),
        lambda where: (where / "new").touch(),
        lambda where: (where / "new").mkdir(),
        lambda where: (where / "new").symlink_to("file"),
        lambda where: (where / "file").unlink(),
        lambda where: (where / "file").rename(where / "new"),
    ]
    for change in changes:
        assert outcome(lambda change=change: change(folder / "code"), **rules) == "EACCES"
        assert outcome(lambda change=change: change(folder / "other"), **rules) == "EACCES"
    if landlock.abi() >= 3:
        assert outcome(lambda: os.truncate(folder / "code" / "file", 0), **rules) == "EACCES"
    for change in changes[:2]:
        assert outcome(lambda change=change: change(folder / "own"), **rules) == PLAIN
    assert (folder / "code" / "file").read_text() == "x"


def test_a_file_can_be_moved_within_a_folder_but_not_into_it(folder: Path) -> None:
    rules = {"read": [str(folder / "code")], "write": [str(folder / "own")]}
    own = folder / "own"
    assert outcome(lambda: os.link(folder / "other" / "file", own / "link"), **rules) in ("EXDEV", "EACCES")
    assert outcome(lambda: (folder / "code" / "file").rename(own / "moved"), **rules) in ("EXDEV", "EACCES")
    (own / "below").mkdir()
    if landlock.abi() >= 2:
        assert outcome(lambda: (own / "file").rename(own / "below" / "file"), **rules) == PLAIN


def test_a_symbolic_link_opens_nothing(folder: Path) -> None:
    (folder / "own" / "link").symlink_to(folder / "other" / "file")
    assert outcome((folder / "own" / "link").read_text, write=[str(folder / "own")]) == "EACCES"


def test_a_single_file_can_be_named_and_a_missing_one_is_left_out(folder: Path) -> None:
    rules = {"read": [str(folder / "other" / "file"), "/nowhere"], "write": ["/dev/null"]}
    assert outcome((folder / "other" / "file").read_text, **rules) == PLAIN
    assert outcome(lambda: Path("/dev/null").write_text("x"), **rules) == PLAIN
    assert outcome(lambda: os.scandir(folder / "other"), **rules) == "EACCES"


@needs_ports
def test_only_named_tcp_ports_can_be_used() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        busy = server.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as other:
            free = other.getsockname()[1]

        def bind(port: int) -> Callable[[], object]:
            return lambda: socket.create_server(("127.0.0.1", port)).close()

        def connect() -> None:
            socket.create_connection(("127.0.0.1", busy)).close()

        assert outcome(bind(free), bind_ports=[free]) == PLAIN
        assert outcome(bind(free), bind_ports=[busy]) == "EACCES"
        assert [outcome(bind(0), bind_ports=ports) for ports in ([0], [], None)] == [PLAIN, "EACCES", PLAIN]
        assert [outcome(connect, connect_ports=ports) for ports in ([busy], [free], None)] == [PLAIN, "EACCES", PLAIN]
        assert outcome(connect, bind_ports=[]) == PLAIN


# -- other processes


@contextmanager
def bystander(*, restricted: bool, prepare: Callable[[], None] = nothing) -> Iterator[int]:
    """A process of the same uid, perhaps in a domain of its own."""
    ready, write = os.pipe()
    child = os.fork()
    if child == 0:
        prepare()
        if restricted:
            no_new_privileges()
            landlock.restrict(read=(), write=())
        os.write(write, b"x")
        signal.pause()
        os._exit(0)
    os.read(ready, 1)
    os.close(ready)
    os.close(write)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@needs_scopes
@pytest.mark.parametrize("restricted", [False, True])
def test_no_process_outside_can_be_signalled(restricted: bool) -> None:
    with bystander(restricted=restricted) as pid:
        assert outcome(lambda: os.kill(pid, signal.SIGKILL)) == "EPERM"
        assert outcome(lambda: os.kill(pid, 0)) == "EPERM"
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)


@needs_scopes
def test_own_children_can_be_signalled() -> None:
    def make_and_end() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a loop of another test may have left its handler
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)

    assert outcome(make_and_end) == PLAIN


def lose_rights() -> None:
    """Become a plain user who may be traced: root reads memory maps in spite of Landlock (CAP_PERFMON)."""
    if os.geteuid() == 0:
        os.setresuid(65534, 65534, 65534)
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


@pytest.mark.parametrize("restricted", [False, True])
@pytest.mark.parametrize("name", ["mem", "environ", "maps", "auxv", "root/etc", "cwd/.", "fd/0"])
def test_nothing_of_another_process_can_be_read(restricted: bool, name: str) -> None:
    def look() -> None:
        os.close(os.open(f"/proc/{pid}/{name}", os.O_RDONLY))

    with bystander(restricted=restricted, prepare=lose_rights) as pid:
        assert as_plain_user(look) == PLAIN
        assert outcome(look, prepare=lose_rights, read=["/"]) in ("EACCES", "EPERM")


def as_plain_user(action: Callable[[], object]) -> str:
    return outcome(action, prepare=lose_rights, restricted=False)


def test_a_process_in_a_domain_reads_nothing_of_outside_processes_in_proc() -> None:
    with bystander(restricted=False) as pid:
        assert outcome(Path(f"/proc/{pid}/cmdline").read_bytes, read=SYSTEM) == "EACCES"
        assert outcome(lambda: os.scandir("/proc"), read=SYSTEM) == "EACCES"
        assert outcome(lambda: Path(f"/proc/{os.getpid()}/status").read_text(), read=SYSTEM) == PLAIN


@needs_scopes
def test_abstract_unix_sockets_outside_cannot_be_reached() -> None:
    name = f"\0rescoldo-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        assert outcome(lambda: socket.socket(socket.AF_UNIX).connect(name)) == "EPERM"


@can_forget
def test_rules_hold_when_the_kernel_has_forgotten_the_names_of_their_files() -> None:
    files = (*PSEUDO, "/proc/self/status", "/proc/self/fd")
    again, told = os.pipe(), os.pipe()
    pinned = landlock.pin(SYSTEM)  # as a supervisor does for all instances
    if (child := os.fork()) == 0:
        try:
            landlock.pin_own_process()
            no_new_privileges()
            landlock.restrict(read=SYSTEM, write=DEVICES)
            os.write(told[1], repr([path for path in files if not reads(path)]).encode())
            os.read(again[0], 1)
            os.write(told[1], repr([path for path in files if not reads(path)]).encode())
        finally:
            os._exit(0)
    before = os.read(told[0], 4096)
    forget_names()
    os.write(again[1], b"1")
    after = os.read(told[0], 4096)
    os.waitpid(child, 0)
    for descriptor in (*again, *told, *pinned):
        os.close(descriptor)
    assert (before, after) == (b"[]", b"[]")


def test_restrict_raises_without_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    with pytest.raises(OSError, match="no Landlock"):
        landlock.restrict(read=(), write=())


# -- programs that must go on working, in the view of an instance and under its filter


def run_restricted(argv: list[str], folder: Path, *code: Path) -> subprocess.CompletedProcess[str]:
    scratch = folder / "scratch"
    scratch.mkdir()
    rules = {"read": (*SYSTEM, *needed_directories(), *map(str, code)), "write": (*DEVICES, str(scratch))}
    steps = (
        "from rescoldo.isolation import landlock, seccomp\n"
        "from rescoldo.isolation.syscalls import no_new_privileges\n"
        "no_new_privileges()\n"
        f"landlock.restrict(**{rules!r})\n"
        "seccomp.install(shared_uid=True)\n"
    )
    environment = {"PATH": os.environ["PATH"], "HOME": str(scratch), "TMPDIR": str(scratch)}
    return run_after(steps, argv, scratch, environment)


PYTHON = """
import concurrent.futures, socket, ssl, subprocess, tempfile, urllib.request, zoneinfo, uuid, random
with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile(dir=folder) as file:
    file.write(b"x")
assert subprocess.run(["sh", "-c", "echo a | cat > /dev/null; echo b"], capture_output=True).stdout == b"b\\n"
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    assert list(pool.map(abs, [-1, 2])) == [1, 2]
socket.getaddrinfo("localhost", 80)
ssl.create_default_context()
zoneinfo.ZoneInfo("UTC")
try:
    open("/etc/shadow")
except PermissionError:
    print("fine")
"""
NODE = """
const { execFileSync } = require('child_process'), fs = require('fs'), os = require('os'), http = require('http');
fs.writeFileSync(os.tmpdir() + '/x', 'x');
if (execFileSync('sh', ['-c', 'echo child']).toString() !== 'child\\n' || os.cpus().length < 1) process.exit(3);
require('dns').lookup('localhost', (error) => {
  const server = http.createServer((request, response) => response.end(String(error)));
  server.listen(0, '127.0.0.1', () => http.get({ port: server.address().port, host: '127.0.0.1' }, (answer) => {
    answer.on('data', (data) => { console.log(data.toString()); server.close(); });
  }));
});
"""
GO = """
package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"
)

func main() {
	if _, err := net.Listen("tcp", "127.0.0.1:0"); err != nil {
		panic(err)
	}
	if _, err := net.LookupHost("localhost"); err != nil {
		panic(err)
	}
	if err := os.WriteFile(os.TempDir()+"/x", nil, 0o600); err != nil {
		panic(err)
	}
	_ = time.Now().Local()
	out, err := exec.Command("sh", "-c", "echo child").Output()
	fmt.Print(string(out), err)
}
"""


@pytest.mark.slow
def test_python_runs_in_the_view(tmp_path: Path) -> None:
    answer = run_restricted([sys.executable, "-c", PYTHON], tmp_path)
    assert (answer.stdout, answer.stderr) == ("fine\n", "")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_node_runs_in_the_view(tmp_path: Path) -> None:
    answer = run_restricted(["node", "-e", NODE], tmp_path)
    assert (answer.stdout, answer.stderr) == ("null\n", "")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go")
def test_a_go_program_runs_in_the_view(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "main.go").write_text(GO)
    go = {**os.environ, "CGO_ENABLED": "0", "GO111MODULE": "off"}
    subprocess.run(["go", "build", "-o", str(code / "program"), str(code / "main.go")], check=True, env=go, cwd=code)
    answer = run_restricted([str(code / "program")], tmp_path, code)
    assert (answer.stdout, answer.stderr) == ("child\n<nil>", "")
