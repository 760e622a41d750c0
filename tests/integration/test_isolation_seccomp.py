"""The filter in the kernel: each refused call is really made in a child, with the filter and without."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import pty
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rescoldo.isolation import seccomp
from rescoldo.isolation.syscall_numbers import MACHINES, numbers
from rescoldo.isolation.syscalls import no_new_privileges, raw_syscall
from support.children import run_after

pytestmark = pytest.mark.skipif(not seccomp.available(), reason="no seccomp filter for this kernel or machine")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make these calls at all")
PLAIN = -1  # the call came back without an error
OTHER_ERROR = 999
NUMBERS = numbers(os.uname().machine) if os.uname().machine in MACHINES else {}


def outcome(action: Callable[[], object], *, filtered: bool, shared_uid: bool = False) -> int:
    """Do `action` in a child; return its errno, PLAIN, or 1000 + the signal that ended the child."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        result = OTHER_ERROR
        try:
            if filtered:
                no_new_privileges()
                seccomp.install(shared_uid=shared_uid)
            action()
            result = PLAIN
        except OSError as error:
            result = error.errno or OTHER_ERROR
        finally:
            os.write(write, str(result).encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    return int(text) if text else 1000 + os.WTERMSIG(status)


def call(name: str, *arguments: object) -> Callable[[], object]:
    return lambda: raw_syscall(name, NUMBERS[name], *arguments)


# Arguments that do no harm even without the filter: the kernel's error is then the last column, and it is
# never EPERM for root, so that a refusal can only be the filter's.
NOWHERE = b"/nowhere"
BAD = -1  # a descriptor
HARMLESS: list[tuple[str, tuple[object, ...]]] = [
    ("mount", (None, NOWHERE, None, 0, None)),
    ("umount2", (NOWHERE, 0)),
    ("pivot_root", (NOWHERE, NOWHERE)),
    ("chroot", (b"/",)),
    ("open_tree", (BAD, NOWHERE, 1)),
    ("move_mount", (BAD, NOWHERE, BAD, NOWHERE, 0)),
    ("fsopen", (b"nothing", 0)),
    ("fsconfig", (BAD, 0, None, None, 0)),
    ("fsmount", (BAD, 0, 0)),
    ("fspick", (BAD, NOWHERE, 0)),
    ("mount_setattr", (BAD, NOWHERE, 0, None, 0)),
    ("unshare", (0x0002_0000,)),
    ("setns", (BAD, 0)),
    ("ptrace", (0, 0, None, None)),  # PTRACE_TRACEME
    ("process_vm_readv", (os.getpid(), None, 0, None, 0, 0)),
    ("process_vm_writev", (os.getpid(), None, 0, None, 0, 0)),
    ("process_madvise", (BAD, None, 0, 0, 0)),
    ("kcmp", (os.getpid(), os.getpid(), 99, 0, 0)),
    ("pidfd_getfd", (BAD, 0, 0)),
    ("bpf", (9999, None, 0)),
    ("perf_event_open", (None, 0, -1, -1, 0)),
    ("userfaultfd", (0,)),
    ("keyctl", (0, 0xFFFF_FFFD, 0, 0, 0)),  # KEYCTL_GET_KEYRING_ID of the session
    ("add_key", (b"user", None, None, 0, 0)),
    ("request_key", (b"user", None, None, 0)),
    ("open_by_handle_at", (BAD, None, 0)),
    ("name_to_handle_at", (BAD, NOWHERE, None, None, 0)),
    ("fanotify_init", (0xFFFF_0000, 0)),
    ("kexec_load", (0, 99, None, 0)),
    ("swapon", (NOWHERE, 0)),
    ("swapoff", (NOWHERE,)),
    ("reboot", (0, 0, 0, None)),  # without its magic numbers
    ("settimeofday", (None, None)),
    ("clock_settime", (99, None)),
    ("clock_adjtime", (99, None)),
    ("adjtimex", (None,)),
    ("sethostname", (b"", -1)),
    ("setdomainname", (b"", -1)),
    ("acct", (NOWHERE,)),
    ("quotactl", (0, None, 0, None)),
    ("quotactl_fd", (BAD, 0, 0, None)),
    ("syslog", (99, None, 0)),
    ("personality", (8,)),
]


@needs_root
@pytest.mark.root
@pytest.mark.parametrize(("name", "arguments"), HARMLESS, ids=[name for name, _ in HARMLESS])
def test_a_refused_call_fails_because_of_the_filter(name: str, arguments: tuple[object, ...]) -> None:
    assert outcome(call(name, *arguments), filtered=True) == errno.EPERM
    assert outcome(call(name, *arguments), filtered=False) != errno.EPERM


@pytest.mark.parametrize("name", ["io_uring_setup", "io_uring_enter", "io_uring_register", "clone3"])
def test_optional_calls_fail_as_if_they_did_not_exist(name: str) -> None:
    assert outcome(call(name, 0, 0, 0, 0, 0, 0), filtered=True) == errno.ENOSYS
    assert outcome(call(name, 0, 0, 0, 0, 0, 0), filtered=False) not in (errno.ENOSYS, 1000 + signal.SIGSYS)


@pytest.mark.parametrize("flag", [0x1000_0000, 0x1000_0000 | 0x2000_0000, 0x1000_0000 | 0x4000_0000])
def test_clone_makes_no_namespace(flag: int) -> None:
    def clone(flags: int) -> None:
        if raw_syscall("clone", NUMBERS["clone"], flags | signal.SIGCHLD, None, None, None, None) == 0:
            os._exit(0)

    assert outcome(lambda: clone(flag), filtered=True) == errno.EPERM
    assert outcome(lambda: clone(0), filtered=True) == PLAIN
    if os.geteuid() == 0:
        assert outcome(lambda: clone(flag), filtered=False) == PLAIN


@needs_root
@pytest.mark.root
def test_devices_cannot_be_made_but_pipes_can(tmp_path: Path) -> None:
    def make(kind: int, name: str) -> Callable[[], object]:
        return lambda: os.mknod(tmp_path / name, kind | 0o600, os.makedev(1, 3))

    for kind, name in ((stat.S_IFCHR, "c"), (stat.S_IFBLK, "b")):
        assert outcome(make(kind, name), filtered=True) == errno.EPERM
        assert outcome(make(kind, name), filtered=False) == PLAIN
    assert outcome(make(stat.S_IFIFO, "p"), filtered=True) == PLAIN


def test_a_process_cannot_type_into_a_terminal() -> None:
    def type_in() -> None:
        _main, other = pty.openpty()
        fcntl.ioctl(other, 0x5413, b"\0" * 8)  # TIOCGWINSZ only asks
        fcntl.ioctl(other, 0x5412, b"x")

    assert outcome(type_in, filtered=True) == errno.EPERM
    if os.geteuid() == 0:
        assert outcome(type_in, filtered=False) != errno.EPERM


MULTIPATH = 262
NETLINK_SOCK_DIAG = 4


@pytest.mark.parametrize(
    ("family", "kind", "protocol", "expected"),
    [
        (socket.AF_PACKET, socket.SOCK_DGRAM, 0, errno.EAFNOSUPPORT),
        (socket.AF_VSOCK, socket.SOCK_STREAM, 0, errno.EAFNOSUPPORT),
        (socket.AF_ALG, socket.SOCK_SEQPACKET, 0, errno.EAFNOSUPPORT),
        (socket.AF_INET, socket.SOCK_STREAM, MULTIPATH, errno.EPROTONOSUPPORT),
        (socket.AF_INET6, socket.SOCK_STREAM, MULTIPATH, errno.EPROTONOSUPPORT),
        (socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG, errno.EPROTONOSUPPORT),
        (socket.AF_NETLINK, socket.SOCK_RAW, 0, PLAIN),
        (socket.AF_INET, socket.SOCK_STREAM, 0, PLAIN),
        (socket.AF_INET6, socket.SOCK_DGRAM, 17, PLAIN),
        (socket.AF_UNIX, socket.SOCK_STREAM, 0, PLAIN),
    ],
)
def test_only_usual_sockets_can_be_made(family: int, kind: int, protocol: int, expected: int) -> None:
    assert outcome(lambda: socket.socket(family, kind, protocol), filtered=True) == expected


def test_multipath_tcp_works_without_the_filter() -> None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, MULTIPATH).close()
    except OSError as error:
        pytest.skip(f"this kernel has none: {error}")
    assert outcome(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, MULTIPATH), filtered=False) == PLAIN


def test_with_a_shared_uid_only_stream_pairs_of_unix_sockets_can_be_made(tmp_path: Path) -> None:
    path = str(tmp_path / "log.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(path)

        def by_a_pair() -> None:
            one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            one.sendto(b"forged", path)

        assert outcome(by_a_pair, filtered=True) == PLAIN  # without a shared uid a pair is allowed
        assert outcome(by_a_pair, filtered=True, shared_uid=True) == errno.EACCES
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            made = outcome(lambda kind=kind: socket.socket(socket.AF_UNIX, kind), filtered=True, shared_uid=True)
            assert made == errno.EACCES
    assert outcome(socket.socketpair, filtered=True, shared_uid=True) == PLAIN


def test_with_a_shared_uid_a_process_sets_only_its_own_limits() -> None:
    parent = os.getpid()
    limit = resource.getrlimit(resource.RLIMIT_CORE)

    def of_another() -> None:
        resource.prlimit(parent, resource.RLIMIT_CORE, limit)

    def of_oneself() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, limit)

    assert outcome(of_another, filtered=False) == PLAIN
    assert outcome(of_another, filtered=True, shared_uid=True) == errno.EPERM
    assert outcome(of_oneself, filtered=True, shared_uid=True) == PLAIN


def test_with_a_shared_uid_a_process_sets_only_its_own_priority_and_processors() -> None:
    anywhere, idle = os.sched_getaffinity(0), os.sched_param(0)
    ioprio = NUMBERS["ioprio_set"]

    def changes(pid: int) -> dict[str, Callable[[], object]]:
        return {
            "setpriority": lambda: os.setpriority(os.PRIO_PROCESS, pid, 0),
            "sched_setaffinity": lambda: os.sched_setaffinity(pid, anywhere),
            "sched_setscheduler": lambda: os.sched_setscheduler(pid, os.SCHED_OTHER, idle),
            "sched_setparam": lambda: os.sched_setparam(pid, idle),
            "ioprio_set": lambda: raw_syscall("ioprio_set", ioprio, 1, pid, 0),
        }

    for name, action in changes(os.getpid()).items():  # in the child this is the parent
        assert outcome(action, filtered=False) == PLAIN, name
        assert outcome(action, filtered=True, shared_uid=True) == errno.EPERM, name
    for name, action in changes(0).items():
        assert outcome(action, filtered=True, shared_uid=True) == PLAIN, name
    for which in (os.PRIO_PGRP, os.PRIO_USER):
        group = lambda which=which: os.setpriority(which, 0, 0)  # noqa: E731
        assert outcome(group, filtered=True, shared_uid=True) == errno.EPERM


@pytest.mark.parametrize("name", ["shmget", "semget", "msgget"])
def test_with_a_shared_uid_there_is_no_system_v_ipc(name: str) -> None:
    nothing_there = call(name, 0x7265_7363, 0, 0)
    assert outcome(nothing_there, filtered=False) == errno.ENOENT
    assert outcome(nothing_there, filtered=True, shared_uid=True) == errno.EACCES


def test_a_32_bit_call_ends_the_process() -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("int 0x80 is x86's")
    # mov $20, %eax (getpid of i386); int $0x80; ret
    code = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"

    def by_interrupt() -> None:
        import mmap

        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(code)
        ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()

    assert outcome(by_interrupt, filtered=True) == 1000 + signal.SIGSYS


def test_the_filter_applies_to_threads_that_already_run() -> None:
    script = """
import os, threading
from rescoldo.isolation import seccomp
from rescoldo.isolation.syscalls import no_new_privileges
go, done, result = threading.Event(), threading.Event(), []
def work():
    go.wait()
    try:
        os.chroot("/")
    except OSError as error:
        result.append(error.errno)
    with open("/proc/thread-self/status") as status:
        result.append("Seccomp:\\t2\\n" in status.read())
    done.set()
thread = threading.Thread(target=work)
thread.start()
no_new_privileges()
seccomp.install(shared_uid=False)
go.set()
thread.join()
print(result)
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout == "[1, True]\n"


# -- programs that must go on working


def run_filtered(argv: list[str], *, shared_uid: bool, cwd: Path) -> subprocess.CompletedProcess[str]:
    steps = (
        "from rescoldo.isolation import seccomp\n"
        "from rescoldo.isolation.syscalls import no_new_privileges\n"
        "no_new_privileges()\n"
        f"seccomp.install(shared_uid={shared_uid})\n"
    )
    return run_after(steps, argv, cwd)


PYTHON = """
import asyncio, concurrent.futures, multiprocessing, socket, subprocess, sys, tempfile, threading

def double(n):
    return 2 * n

async def serve(loop_name):
    async def answer(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello\\n")
    assert await reader.readline() == b"hello\\n"
    writer.close()
    process = await asyncio.create_subprocess_exec("echo", "child", stdout=subprocess.PIPE)
    assert (await process.communicate())[0] == b"child\\n"
    assert await asyncio.to_thread(double, 4) == 8
    server.close()
    await server.wait_closed()

if __name__ == "__main__":
    assert subprocess.run(["sh", "-c", "echo a | cat"], capture_output=True).stdout == b"a\\n"
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(double, range(10))) == list(range(0, 20, 2))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(double, [1, 2]) == [2, 4]
    asyncio.run(serve("asyncio"))
    import uvloop
    uvloop.run(serve("uvloop"))
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    socket.getaddrinfo("localhost", 80)
    print("fine")
"""

NODE = """
const { execFileSync, spawn } = require('child_process');
const { Worker } = require('worker_threads');
const fs = require('fs'), http = require('http'), os = require('os');
if (execFileSync('echo', ['child']).toString() !== 'child\\n') process.exit(3);
os.networkInterfaces();
fs.readFile('/etc/hostname', () => {
  const worker = new Worker('require("worker_threads").parentPort.postMessage(7)', { eval: true });
  worker.on('message', (seven) => {
    const server = http.createServer((request, response) => response.end('hello'));
    server.listen(0, () => http.get({ port: server.address().port, host: '127.0.0.1' }, (answer) => {
      answer.on('data', (data) => { console.log(seven, data.toString()); server.close(); });
    }));
  });
});
"""

GO = """
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"sync"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") }))
	var group sync.WaitGroup
	for range 8 {
		group.Add(1)
		go func() {
			defer group.Done()
			answer, err := http.Get("http://" + listener.Addr().String())
			if err != nil {
				panic(err)
			}
			io.ReadAll(answer.Body)
		}()
	}
	group.Wait()
	if _, err := net.Interfaces(); err != nil {
		panic(err)
	}
	out, err := exec.Command("echo", "child").Output()
	fmt.Print(string(out), err)
}
"""


@pytest.mark.slow
@pytest.mark.parametrize("shared_uid", [False, True])
def test_python_runs_with_threads_processes_and_event_loops(shared_uid: bool, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PYTHON)
    answer = run_filtered([sys.executable, str(program)], shared_uid=shared_uid, cwd=tmp_path)
    assert (answer.stdout, answer.stderr) == ("fine\n", "")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
@pytest.mark.parametrize("shared_uid", [False, True])
def test_node_runs_with_workers_processes_and_servers(shared_uid: bool, tmp_path: Path) -> None:
    answer = run_filtered(["node", "-e", NODE], shared_uid=shared_uid, cwd=tmp_path)
    assert (answer.stdout, answer.stderr) == ("7 hello\n", "")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go")
@pytest.mark.parametrize("shared_uid", [False, True])
def test_a_go_program_runs_with_goroutines_processes_and_servers(shared_uid: bool, tmp_path: Path) -> None:
    source, binary = tmp_path / "main.go", tmp_path / "program"
    source.write_text(GO)
    go = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GO111MODULE": "off"}
    subprocess.run(["go", "build", "-o", str(binary), str(source)], check=True, env=go, cwd=tmp_path)
    answer = run_filtered([str(binary)], shared_uid=shared_uid, cwd=tmp_path)
    assert (answer.stdout, answer.stderr) == ("child\n<nil>", "")
