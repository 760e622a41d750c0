"""The whole platform as a user other than root, without an entry in /etc/passwd."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from support.gateway import PATIENCE
from support.live import alive
from support.memory import can_forget, forget_names
from support.ports import free_ports
from support.real_node import DEAFENS
from support.unprivileged import UID, interpreter, readable_library
from support.user import Account

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user"),
    pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv"),
]

STRANGER = UID + 5_000_000  # no pid is as large


class Somebody(Account):
    """Runs commands as UID, in a home directory of its own."""

    def __init__(self, home: Path, python: str, library: Path, before: Sequence[str] = ()) -> None:
        self.home = home
        identity = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": str(library)}
        super().__init__(home, home / ".local" / "share" / "rescoldo", [*before, *identity, python], environment)

    def function(self, name: str, code: str) -> None:
        """Create and deploy a function with this handler."""
        self.project(name, code)
        self.up()

    def project(self, name: str, code: str) -> None:
        self.ok("new", name, "--lang", "python3-http")
        (self.home / name / "handler.py").write_text(code)

    def pids(self) -> dict[str, int]:
        """Return the pids of the platform's processes by name."""
        return {one["name"]: one["pid"] for one in json.loads(self.ok("status", "--json"))["processes"]}

    def replicas(self, name: str) -> int:
        return int(json.loads(self.ok("describe", name, "--json"))["availableReplicas"])


@pytest.fixture(scope="module")
def library() -> Iterator[Path]:
    with readable_library() as folder:
        yield folder


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="rl-home-", dir="/tmp"))
    os.chown(folder, UID, UID)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def python() -> str:
    found = interpreter()
    if found is None:
        pytest.skip("this Python is in a folder that only root may enter")
    return found


@pytest.fixture
def somebody(home: Path, python: str, library: Path) -> Iterator[Somebody]:
    found = Somebody(home, python, library)
    try:
        yield found
    finally:
        found.run("down")


@pytest.fixture
def container(home: Path) -> Iterator[list[str]]:
    """The beginning of commands in a mount and a PID namespace in which home/volume is a volume of root's."""
    volume = home / "volume"
    volume.mkdir()
    mounts = f"mount -t proc proc /proc && mount -t tmpfs -o mode=0777 none {volume}"
    stay = f"{mounts} && echo ready && exec sleep infinity"
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", stay]
    with subprocess.Popen(unshare, stdout=subprocess.PIPE, text=True) as outside:
        assert outside.stdout is not None and outside.stdout.readline() == "ready\n"
        inside = Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text().strip()
        yield ["nsenter", "--target", inside, "--mount", "--pid", "env", "-C", str(home)]
        outside.kill()


def processes() -> list[int]:
    """Return the user's processes."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if folder.stat().st_uid == UID and alive(int(folder.name)):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def test_a_function_is_deployed_wakes_sleeps_and_wakes_without_root(somebody: Somebody) -> None:
    somebody.function("whoami", "import os\ndef handle(event, context):\n    return f'{os.getuid()} {os.getpid()}'\n")
    status = json.loads(somebody.ok("status", "--json"))
    assert status["isolation"]["level"] == "unprivileged"
    assert somebody.replicas("whoami") == 1, "the first deployment started no instance"
    uid, pid = somebody.ok("invoke", "whoami").split()
    assert int(uid) == UID
    assert somebody.ok("invoke", "whoami") == f"{uid} {pid}"
    somebody.ok("scale", "whoami", "0")
    deadline = time.monotonic() + PATIENCE
    while alive(int(pid)):
        assert time.monotonic() < deadline, "the instance did not end"
        time.sleep(0.01)
    assert somebody.ok("invoke", "whoami").split()[1] != pid
    somebody.ok("down")
    assert processes() == []


def test_variables_name_the_gateway_without_root(somebody: Somebody) -> None:
    code = "import os, urllib.request\ndef handle(event, context):\n"
    code += "    url = os.environ['OPENFAAS_GATEWAY'] + '/healthz'\n"
    code += "    return f\"{os.environ['gateway_hostname']} {urllib.request.urlopen(url).status}\"\n"
    somebody.function("inside", code)
    assert somebody.ok("invoke", "inside").strip() == "127.0.0.1 200"
    assert "(in OPENFAAS_GATEWAY; without a name)" in somebody.ok("describe", "inside")
    somebody.ok("down")


def test_a_broken_function_shows_its_error_without_root(somebody: Somebody) -> None:
    somebody.project("broken", "1 / 0\ndef handle(event, context):\n    pass\n")
    tried = somebody.run("up", "--metrics-address", somebody.metrics)
    assert tried.returncode == 1
    assert "handler.py line 1: ZeroDivisionError" in tried.stderr
    said = somebody.run("invoke", "broken")
    assert said.returncode == 1
    assert "502" in said.stderr
    assert "handler.py line 1: ZeroDivisionError" in said.stderr
    assert "ZeroDivisionError" in somebody.ok("logs", "broken", "--no-follow")


def test_other_users_reach_neither_files_nor_sockets_of_an_unprivileged_platform(somebody: Somebody) -> None:
    somebody.function("hello", "def handle(event, context):\n    return 'hello'\n")
    assert somebody.ok("invoke", "hello") == "hello"
    stranger = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"]
    # without folders that find may not list: its errors there are expected
    what = ["(", "-type", "f", "-readable", "-o", "-type", "s", "-writable", ")", "-print"]
    run = json.loads((somebody.data / "settings.json").read_text())["run"]
    for folder in (run, str(somebody.data)):
        own = subprocess.run(["find", folder, *what], capture_output=True, text=True, check=True).stdout
        assert own, f"{folder} holds nothing"
        found = subprocess.run([*stranger, "find", folder, *what], capture_output=True, text=True, check=False).stdout
        assert found == ""


def test_a_secret_reaches_the_functions_that_name_it_without_root(somebody: Somebody) -> None:
    code = (
        "import os\n"
        "def handle(event, context):\n"
        "    path = os.environ['secret_mount_path'] + '/key'\n"
        "    return open(path).read() if os.path.exists(path) else 'nothing'\n"
    )
    somebody.function("reader", code)
    assert somebody.ok("invoke", "reader") == "nothing"
    somebody.ok("secret", "create", "key", stdin="s3cret\n")
    somebody.ok("deploy", "--secret", "key")
    assert somebody.ok("invoke", "reader") == "s3cret"
    somebody.ok("secret", "update", "key", stdin="new\n")
    assert somebody.ok("invoke", "reader") == "new"


def test_a_function_that_closes_its_listening_socket_is_replaced_without_root(somebody: Somebody) -> None:
    somebody.function("deaf", DEAFENS)
    first = somebody.ok("invoke", "deaf")
    assert somebody.ok("invoke", "deaf/close") == first
    assert somebody.ok("invoke", "deaf") != first
    assert "it has closed its listening socket" in somebody.ok("logs", "deaf", "--no-follow")


@can_forget
def test_a_function_reads_proc_after_the_kernel_has_freed_memory_and_a_supervisor_has_died(somebody: Somebody) -> None:
    paths = ("/proc/self/status", "/proc/cpuinfo", "/proc/filesystems", "/proc/sys/kernel/hostname")
    code = f"def handle(event, context):\n    return [open(path).read(4) != '' for path in {paths}]\n"
    somebody.function("looks", code)
    assert json.loads(somebody.ok("invoke", "looks")) == [True] * 4
    forget_names()
    assert json.loads(somebody.ok("invoke", "looks")) == [True] * 4
    before = somebody.pids()
    for name in ("node", "supervisor"):
        os.kill(before[name], signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while any(somebody.pids().get(name) in (None, before[name]) for name in ("node", "supervisor")):
        assert time.monotonic() < deadline, somebody.log()
        time.sleep(0.05)
    forget_names()
    assert json.loads(somebody.ok("invoke", "looks")) == [True] * 4


def test_a_program_runs_without_root_once_for_each_port(somebody: Somebody) -> None:
    (port,) = free_ports(1)
    somebody.ok("new", "hello", "--lang", "process")
    stack = somebody.home / "stack.yaml"
    stack.write_text(stack.read_text().replace("127.0.0.1:8000", f"127.0.0.1:{port}"))
    somebody.up()
    assert somebody.ok("invoke", "hello", stdin="you") == "Hello, you!\n"
    somebody.ok("scale", "hello", "2")
    deadline = time.monotonic() + PATIENCE
    while f"another instance has port {port}" not in somebody.log():
        assert time.monotonic() < deadline, somebody.log()
        time.sleep(0.01)
    assert somebody.ok("invoke", "hello", stdin="you") == "Hello, you!\n"


@pytest.mark.skipif(not shutil.which("nsenter"), reason="needs util-linux")
def test_a_platform_keeps_its_data_in_a_folder_of_a_volume_of_roots(
    container: list[str], home: Path, python: str, library: Path
) -> None:
    volume = str(home / "volume")
    somebody = Somebody(home, python, library, before=container)
    somebody.ok("serve", "--detach", "--data", volume, "--gateway-address", somebody.gateway.removeprefix("http://"),
                "--metrics-address", somebody.metrics)
    try:
        status = json.loads(somebody.ok("status", "--data", volume, "--json"))
        assert status["data"] == f"{volume}/rescoldo"
        somebody.environment["RESCOLDO_DATA"] = volume
        somebody.function("hello", "def handle(event, context):\n    return 'hello'\n")
        assert somebody.ok("invoke", "hello") == "hello"
        assert "is already served by process" in somebody.fails("serve", "--data", volume)
    finally:
        assert somebody.ok("down", "--data", volume) == "Stopped.\n"


def test_the_error_for_a_port_below_1024_names_the_flag(somebody: Somebody) -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 80:
        pytest.skip("everybody may listen on port 80 here")
    said = somebody.run("serve", "--gateway-address", "127.0.0.1:80", "--metrics-address", somebody.metrics)
    assert said.returncode != 0
    assert "--gateway-address" in said.stderr
    assert "Permission denied" in said.stderr


def test_the_error_for_another_users_data_directory_names_the_flag(somebody: Somebody) -> None:
    said = somebody.run("serve", "--data", "/etc/rescoldo-test", "--metrics-address", somebody.metrics)
    assert said.returncode != 0
    assert "/etc/rescoldo-test" in said.stderr
    assert "--data" in said.stderr
