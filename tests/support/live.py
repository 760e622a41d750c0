"""Runs a whole real platform for end-to-end tests and benchmarks: supervisor, HAProxy, controller, node."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rescoldo.model.settings import Settings
from rescoldo.supervisor.start import stop
from support.gateway import PATIENCE, Gateway
from support.ports import free_ports

SOURCE = Path(__file__).parents[2] / "src"


class Live(Gateway):
    """A platform in folders of its own, on free ports."""

    python = sys.executable  # interpreter of the platform and its functions

    def __init__(self, **settings: Any) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rl-", dir="/tmp"))
        ports = free_ports(2)
        chosen = {
            "data": str(self.folder / "data"),
            "run": tempfile.mkdtemp(prefix="rl-", dir="/dev/shm"),
            "gateway": f"127.0.0.1:{ports[0]}",
            "metrics": f"127.0.0.1:{ports[1]}",
        }
        self.folder.chmod(0o755)
        self.settings = Settings(**{**chosen, **settings})
        self.port = int(self.settings.gateway.rpartition(":")[2])
        self.prefix: list[str] = []  # a command that runs the platform in another environment or under limits
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Live:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- life cycle

    def start(self) -> None:
        """Start the platform and wait until it answers."""
        self.spawn()
        self.until(self.answers, "the platform to answer")

    def spawn(self) -> None:
        request = self.folder / "settings.json"
        request.write_text(json.dumps(asdict(self.settings)))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(request),
                env=self.environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def command(self, request: Path) -> list[str]:
        """Return the command that starts the platform; the file `request` holds its settings."""
        return [*self.prefix, self.python, "-m", "rescoldo.supervisor.main", str(request)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(SOURCE)}

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the platform ended:\n{self.log()}"
        try:
            return self.call("GET", "/healthz").status == 200
        except OSError:
            return False

    def stop(self) -> int:
        """Send SIGTERM; return the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()
        if self.settings.children_file.exists():  # a test killed guardian and supervisor
            stop(self.settings)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.settings.run, ignore_errors=True)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def pid(self, name: str) -> int:
        """Return the pid of guardian, supervisor, edge, controller, node or zygote."""
        if name == "zygote":
            return next(pid for pid in children_of(self.pid("node")) if comm(pid) == "rescoldo-zyg")
        return int(json.loads(self.settings.children_file.read_text())[name])

    def kill(self, name: str) -> int:
        """Send SIGKILL to one of the platform's processes; return its pid."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def login(self) -> tuple[str, str] | None:
        if not self.settings.basic_auth:
            return None
        folder = self.settings.secrets
        return (folder / "basic-auth-user").read_text().strip(), (folder / "basic-auth-password").read_text().strip()

    def instances(self) -> list[Path]:
        """Return the listening sockets of instances."""
        return sorted(self.settings.instances.glob("*.sock"))

    def instance_pids(self, name: str) -> list[int]:
        """Return the pids of a function's instances from the node's notes."""
        found = []
        for path in self.settings.instance_state.glob("*.json"):
            with suppress(FileNotFoundError):  # the instance has ended since the glob
                note = json.loads(path.read_text())
                if note["launch"]["function"].partition(".")[0] == name:
                    found.append(note["pid"])
        return found

def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Return whether a process exists and has not ended.

    /proc shows a killed process as a zombie as soon as its main thread has ended. Its sockets stay open until its
    last thread has ended: the pidfd becomes readable only then.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return not poll.poll(0)
    finally:
        os.close(pidfd)


def pss(pid: int) -> int:
    """Return a process's proportional set size in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
