"""A platform with a victim, an attacker beside it, and a bystander."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hostile.function.kit import MARKER
from rescoldo.bundle.build import BuildRequest, build
from rescoldo.isolation.netfence import address_of
from rescoldo.model.ids import EDGE_UID
from rescoldo.node.instances import notes
from rescoldo.node.instances.notes import Note
from support.gateway import Answer, no_installer
from support.live import SOURCE, Live, alive, children_of, comm

Level = Literal["full", "unprivileged"]
HERE = Path(__file__).parent
VICTIM, ATTACKER, PROGRAM, BYSTANDER, TRACES = "victim", "attacker", "attacker-program", "bystander", "traces"
PARTS = ("isolation", "model")  # packages of rescoldo that attacks import; a function only has its own packages
VICTIMS_PROGRAM = "victims-program"  # its process's name, at most 15 characters
IMAGE = "hostile:test"
SECRET, SECRET_VALUE = "victims-secret", f"{MARKER}-{os.urandom(8).hex()}"
VARIABLE_VALUE = f"{MARKER}-{os.urandom(8).hex()}"
PLATFORM_VALUE = f"{MARKER}-{os.urandom(8).hex()}"  # in the environment of the platform itself
LONG = {"rescoldo.dev/idle-window": "1h"}
_PARTS = ("guardian", "supervisor", "edge", "controller", "node", "zygote")
_SIGTERM = 15


@dataclass
class Outcome:
    """An attack's tries and their results; the attack is refused if nothing was gained."""

    refused: dict[str, str] = field(default_factory=dict)
    gained: dict[str, str] = field(default_factory=dict)

    def judge(self, what: str, held: object, otherwise: object) -> None:
        """Count `what` as refused if it `held`; otherwise as a gain, described by `otherwise`."""
        if held:
            self.refused[what] = "refused"
        else:
            self.gained[what] = str(otherwise)[:400]


class World:
    """The platform under attack. `level` is how the platform isolates instances."""

    def __init__(self, live: Live, level: Level, probe: Path | None) -> None:
        self.live = live
        self.level = level
        self._probe = probe  # the compiled attack.c
        self._host_files = _host_files()

    @contextmanager
    def inhabited(self) -> Iterator[World]:
        """Deploy and wake all functions while the context is entered."""
        try:
            self._populate()
            yield self
        finally:
            for path in self._host_files:
                path.unlink(missing_ok=True)

    def _populate(self) -> None:
        self.live.system("POST", "/secrets", {"name": SECRET, "value": SECRET_VALUE})
        self.deploy(VICTIM, {"handler.py": (HERE / "victim.py").read_bytes()}, secrets=[SECRET], envVars={
            "VICTIMS_OWN": VARIABLE_VALUE})  # fmt: skip
        self.live.deploy(BYSTANDER, "def handle(event, context):\n    return 'fine'\n", annotations=LONG)
        self.deploy(ATTACKER, self.attackers_files())
        self._leave_traces()
        self._deploy_program()
        for name in (VICTIM, BYSTANDER, ATTACKER, PROGRAM):
            self.live.until(lambda name=name: self.live.invoke(name).status < 501, f"{name} to be awake")  # type: ignore[misc]
        self.victim = json.loads(self.live.invoke(VICTIM).text)

    def _deploy_program(self) -> None:
        """Deploy the attacker a second time, as a program with its own server."""
        folder = self.live.folder / "source" / PROGRAM
        for file, content in self.attackers_files().items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        command, port = "python3 serve.py", "http://127.0.0.1:27721"
        self.live.deploy_program(PROGRAM, folder, command, port, annotations=LONG)

    def _leave_traces(self) -> None:
        """Start a function with the victim's variable and secret more often than there are spares, so that later
        forks might inherit something of them."""
        spec = {"envVars": {"VICTIMS_OWN": VARIABLE_VALUE}, "secrets": [SECRET], "annotations": LONG}
        self.live.deploy(TRACES, image=f"{BYSTANDER}:test", **spec)
        for _ in range(self.live.settings.spares + 2):
            self.live.invoke(TRACES)
            self.live.sleep(TRACES)

    def attackers_files(self) -> dict[str, bytes]:
        files = {path.name: path.read_bytes() for path in (HERE / "function").glob("*.py")}
        for path in (SOURCE / "rescoldo").glob("*.py"):
            files[f"rescoldo/{path.name}"] = path.read_bytes()
        for part in PARTS:
            for path in (SOURCE / "rescoldo" / part).glob("*.py"):
                files[f"rescoldo/{part}/{path.name}"] = path.read_bytes()
        return files | ({"attack": self._probe.read_bytes()} if self._probe else {})

    def deploy(self, name: str, files: Mapping[str, bytes], **spec: Any) -> None:
        """Build, upload and deploy a function with these files."""
        source = self.live.folder / "source" / name
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir(parents=True)
        for file, content in files.items():
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            (source / file).write_bytes(content)
        request = BuildRequest(f"{name}:hostile", "python3-http", "http", source, project=source.parent)
        built = build(request, self.live.folder / "build" / name, lambda line: None, run=no_installer)
        answer = self.live.system("POST", f"/bundles?image={name}:hostile", built.path.read_bytes())
        assert answer.status == 201, answer.text
        self.live.deploy(name, image=f"{name}:hostile", **{"annotations": LONG, **spec})

    def note(self, function: str) -> Note:
        """Return the node's note on a function's instance."""
        found = [note for _, note in notes.read_all(self.live.settings.instance_state) if note is not None]
        return next(n for n in found if n.ready and alive(n.pid) and n.launch.function.partition(".")[0] == function)

    def pids(self) -> dict[str, int]:
        """Return the processes that an attacker might want to reach."""
        found = {part: self.live.pid(part) for part in _PARTS}
        victim = self.note(VICTIM).pid
        exec_ed = next(pid for pid in children_of(victim) if comm(pid) == VICTIMS_PROGRAM)
        return {VICTIM: victim, VICTIMS_PROGRAM: exec_ed, **found}

    def target(self, function: str = ATTACKER, **more: Any) -> dict[str, Any]:
        """Return everything that an attacker might want to know."""
        settings, victims, own = self.live.settings, self.note(VICTIM), self.note(function)
        password = (settings.secrets / "basic-auth-password").read_text().strip()
        marks = {"the victim's variable": VARIABLE_VALUE, "the victim's secret": SECRET_VALUE,
                 "the platform's variable": PLATFORM_VALUE, "the platform's password": password}  # fmt: skip
        return {
            "level": self.level,
            "signal": _SIGTERM,
            "pids": self.pids(),
            "addresses": {VICTIM: self.victim["address"]},
            "victim": self._victims(victims),
            "own": {"code": str(settings.bundles / own.launch.digest), "socket": own.address.partition("@")[2],
                    "port": own.launch.port},
            "bundles": settings.bundles.as_posix(),
            "package": str(SOURCE / "rescoldo"),
            "platform_files": [
                str(path)
                for path in (
                    settings.database, settings.secrets / "basic-auth-password", settings.settings_file,
                    settings.logs, settings.children_file, settings.data_path, settings.run_path,
                    settings.instance_state, settings.uploads, settings.edge, settings.function_secrets,
                )
            ],
            "host_files": [str(path) for path in self._host_files],
            "platform_sockets": [
                str(path)
                for path in (
                    settings.wake_socket, settings.api_socket, settings.log_socket, settings.node_socket,
                    settings.admin_socket, *settings.run_path.rglob("*.sock"),
                )
                if path.parent != settings.instances
            ],
            "cgroups": self._cgroups(),
            "gateway": settings.gateway,
            "metrics": settings.metrics,
            "edge_uid": EDGE_UID,
            "memory_marks": {name: bytes(b ^ 0xFF for b in mark.encode()).hex() for name, mark in marks.items()},
            **more,
        }  # fmt: skip

    def _victims(self, note: Note) -> dict[str, Any]:
        settings, uid = self.live.settings, self.victim["uid"]
        root = f"/proc/{note.pid}/root"
        file = f"{MARKER}-{uid}"
        return {
            "uid": uid,
            "code": str(settings.bundles / note.launch.digest),
            "secrets": [
                str(settings.function_secrets / "openfaas-fn" / SECRET),
                f"/var/openfaas/secrets/{SECRET}",
                f"{root}/var/openfaas/secrets/{SECRET}",
                f"{self.victim['tmp']}/secrets/{SECRET}",
            ],
            "scratch": [
                *(f"{root}{folder}/{file}" for folder in ("/tmp", "/var/tmp", "/dev/shm")),
                *(f"{folder}/{file}" for folder in ("/tmp", "/var/tmp", "/dev/shm", self.victim["tmp"])),
            ][: None if self.level == "full" else 7],
            "sockets": [note.address.partition("@")[2], str(settings.instances / "nothing.sock")][:1],
            "address": address_of(uid) if self.level == "full" else "127.0.0.1",
            **{key: self.victim[key] for key in ("ports", "sysv_key", "queue", "shm", "abstract")},
        }

    def _cgroups(self) -> list[str]:
        base = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"]
        with suppress(OSError, ValueError):
            folders = json.loads(self.live.settings.cgroups_file.read_text())["folders"].values()
            base += sorted(set(folders))
        return base

    def attack(self, name: str, function: str = ATTACKER, timeout: float = 60.0, **more: Any) -> Answer:
        """Let a function make an attack."""
        self.live.until(lambda: self.live.invoke(function).status < 501, f"{function} to be awake")
        order = {"attack": name, "target": self.target(function, **more)}
        return self.live.invoke(function, json.dumps(order), timeout=timeout)

    @contextmanager
    def watched(self, outcome: Outcome) -> Iterator[None]:
        """Record an attack's effect on others in `outcome`: victim and bystander are called all the time, and none
        of their or the platform's processes may end."""
        before, logged = self.pids() | {BYSTANDER: self.note(BYSTANDER).pid}, len(self.live.log())
        seen: Counter[str] = Counter()
        stop = threading.Event()
        callers = [threading.Thread(target=self._call, args=(name, seen, stop)) for name in (VICTIM, BYSTANDER)]
        for caller in callers:
            caller.start()
        try:
            yield
            goal = seen.total() + 4
            self.live.until(lambda: seen.total() >= goal, "calls after the attack")
        finally:
            stop.set()
            for caller in callers:
                caller.join()
        failed = {result: count for result, count in seen.items() if result != "200"}
        outcome.judge("harms the victim's or a bystander's calls", not failed, failed)
        ended = [name for name, pid in before.items() if not alive(pid)]
        outcome.judge("ends a process of others", not ended, ended)
        outcome.judge("stops a process of others", not (s := [n for n, p in before.items() if _stopped(p)]), s)
        outcome.judge("stops the gateway", self.live.call("GET", "/healthz").status == 200, "no answer")
        said = self.live.log()[logged:]
        outcome.judge("makes the platform fail", "Traceback" not in said and "ERROR" not in said, said[-400:])

    def _call(self, name: str, seen: Counter[str], stop: threading.Event) -> None:
        while not stop.wait(0.02):
            try:
                seen[str(self.live.invoke(name, timeout=20).status)] += 1
            except OSError as error:
                seen[f"{name}: {error!r}"] += 1

    def raw(self, data: bytes, timeout: float = 10.0) -> bytes:
        """Send raw bytes to the gateway; return what it sends until the connection ends."""
        received = b""
        with socket.create_connection(("127.0.0.1", self.live.port), timeout=timeout) as client:
            client.sendall(data)
            with suppress(TimeoutError, ConnectionError):
                while chunk := client.recv(65536):
                    received += chunk
        return received


def _stopped(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    return False


def _host_files() -> list[Path]:
    """Create files with a marker that every user may read, in several of the machine's folders; return their paths."""
    made = []
    for folder in ("/tmp", "/var/tmp", "/dev/shm", "/run", "/srv", "/mnt", "/home"):
        with suppress(OSError):
            descriptor, path = tempfile.mkstemp(prefix=f"{MARKER}-host-", dir=folder)
            os.write(descriptor, MARKER.encode())
            os.fchmod(descriptor, 0o644)
            os.close(descriptor)
            made.append(Path(path))
    return made


def compiler() -> str | None:
    """Return the machine's C compiler; None without one."""
    return shutil.which("cc") or shutil.which("gcc")


def compile_probe(folder: Path) -> Path | None:
    """Compile attack.c; return the binary, None without a compiler."""
    found = compiler()
    if found is None:
        return None
    binary = folder / "attack"
    source = str(HERE / "function" / "attack.c")
    subprocess.run([found, "-O1", "-static", "-o", str(binary), source], check=True)
    return binary
