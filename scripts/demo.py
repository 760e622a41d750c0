"""`make demo`: takes one function on a platform of its own from zero to a response and back to zero.

Uses the real command and HTTP only. Exits with 0 only if every step was verified.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("rescoldo")
WARM_CALLS = 50
SLEEP_PATIENCE = 30.0  # seconds; the idle window is 10
PROCESSES = ("edge", "controller", "node", "zygote", "spares", "supervisor", "guardian")


class Untrue(Exception):
    """A step had another result than it claims."""


def check(condition: object, what: str) -> None:
    if not condition:
        raise Untrue(what)


@dataclass(frozen=True)
class Step:
    """One line of the final table."""

    name: str
    milliseconds: float
    instances: int
    memory: dict[str, int]  # bytes by process; "instances" for all instances together


class Demo:
    def __init__(self, folder: Path) -> None:
        gateway, metrics = free_ports(2)
        self.port = gateway
        self.metrics = f"127.0.0.1:{metrics}"
        self.folder = folder
        self.data = folder / "data"
        self.node = 0  # the node's pid
        self.steps: list[Step] = []
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("OPENFAAS_", "RESCOLDO_"))}
        self.environment = kept | {"OPENFAAS_URL": f"http://127.0.0.1:{gateway}", "RESCOLDO_DATA": str(self.data)}

    # -- the steps

    def run(self) -> None:
        self.shell("new", "greet", "--lang", "python3-http")
        took = self.shell("up", "--metrics-address", self.metrics)
        self.step("rescoldo up: platform started, deployed, tried", took, instances=1)

        self.shell("scale", "greet", "0")
        took = self.wait_for_sleep()
        self.step("put to sleep", took, instances=0)

        status, cold, body, took = self.call(b"Ada")
        say(f'POST /function/greet  "Ada" -> {status} {body!r}, X-Cold-Start: {cold}, {took:.1f} ms')
        check((status, body, cold) == (200, "Hello, Ada!\n", "true"), "the first call is answered and was cold")
        self.step("cold call, from zero instances", took, instances=1)

        calls = [self.call(b"Grace") for _ in range(WARM_CALLS)]
        check(all(call[:3] == (200, "false", "Hello, Grace!\n") for call in calls), "the next calls are warm")
        took = statistics.median(call[3] for call in calls)
        say(f'POST /function/greet  "Grace" {WARM_CALLS} times -> all 200, X-Cold-Start: false, median {took:.1f} ms')
        self.step(f"warm call (median of {WARM_CALLS})", took, instances=1)

        took = self.wait_for_sleep()
        self.step("back to zero (idle window 10 s)", took, instances=0)

    def wait_for_sleep(self) -> float:
        """Wait until no instance is left; return the elapsed milliseconds."""
        begin = time.perf_counter()
        while (seconds := time.perf_counter() - begin) < SLEEP_PATIENCE:
            if not self.instance_pids():
                progress("")
                say(f"asleep after {seconds:.1f} s")
                return seconds * 1000
            progress(f"waiting for it to fall asleep: {seconds:4.1f} s")
            time.sleep(0.1)
        raise Untrue(f"it falls asleep within {SLEEP_PATIENCE:g} s")

    def step(self, name: str, milliseconds: float, *, instances: int) -> None:
        """Record a step's time and the memory held after it; check the number of instances."""
        seen = self.replicas()
        check(seen == instances, f"{instances} instances after: {name} (there are {seen})")
        self.steps.append(Step(name, milliseconds, seen, self.memory()))

    # -- commands and measurements

    def shell(self, *arguments: str) -> float:
        """Run `rescoldo ARGUMENTS` and print the command; return the elapsed milliseconds."""
        say(f"$ rescoldo {' '.join(arguments)}")
        begin = time.perf_counter()
        done = subprocess.run(
            [COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        took = (time.perf_counter() - begin) * 1000
        for line in filter(str.strip, done.stdout.splitlines()):
            say(f"    {line}")
        check(done.returncode == 0, f"rescoldo {arguments[0]} succeeds")
        return took

    def ask(self, *arguments: str) -> Any:
        """Return the JSON output of `rescoldo ARGUMENTS --json`."""
        done = subprocess.run(
            [COMMAND, *arguments, "--json"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        check(done.returncode == 0, f"rescoldo {' '.join(arguments)} succeeds: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def call(self, body: bytes) -> tuple[int, str, str, float]:
        """Call the function on a new connection; return status, X-Cold-Start, body and milliseconds."""
        begin = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", "/function/greet", body)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        took = (time.perf_counter() - begin) * 1000
        return response.status, response.headers.get("x-cold-start", ""), text, took

    def replicas(self) -> int:
        return int(self.ask("describe", "greet")["availableReplicas"])

    def zygote_and_children(self) -> tuple[int, list[int]]:
        """Return the pids of the zygote and of its forks, spares and instances."""
        zygote = next((pid for pid in children_of(self.node) if comm(pid) == "rescoldo-zyg"), 0)
        return zygote, children_of(zygote)

    def instance_pids(self) -> list[int]:
        return [pid for pid in self.zygote_and_children()[1] if not comm(pid).startswith("rescoldo-")]

    def memory(self) -> dict[str, int]:
        """Return the memory of each of the platform's processes, including the zygote's forks."""
        pids = {process["name"]: int(process["pid"]) for process in self.ask("status")["processes"]}
        self.node = pids["node"]
        zygote, forks = self.zygote_and_children()
        instances = self.instance_pids()
        held = {name: proportional(pid) for name, pid in pids.items()} | {"zygote": proportional(zygote)}
        held["spares"] = sum(proportional(pid) for pid in forks if pid not in instances)
        return held | {"instances": sum(map(proportional, instances))}

    def stop(self) -> None:
        """Stop the platform if one runs."""
        subprocess.run([COMMAND, "down"], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True)

    # -- the final table

    def report(self) -> None:
        width = max(len(step.name) for step in self.steps)
        say(f"\n{'step':<{width}}  {'took':>11}  instances  memory held")
        for step in self.steps:
            held = mebibytes(sum(step.memory.values()))
            say(f"{step.name:<{width}}  {step.milliseconds:>8,.1f} ms  {step.instances:>9}  {held:>11}")
        say("\nmemory after each step (PSS: shared pages are divided; RSS where PSS may not be read):")
        names = [*PROCESSES, "instances"]
        say("  ".join(f"{name:>10}" for name in names))
        for step in self.steps:
            say("  ".join(f"{mebibytes(step.memory.get(name, 0)):>10}" for name in names))


def free_ports(count: int) -> list[int]:
    """Return ports of loopback on which nothing listens now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def proportional(pid: int) -> int:
    """Return a process's PSS in bytes. Another user's process only shows its RSS, which counts shared pages in full."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except PermissionError:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        pass
    return 0


def mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def say(text: str = "") -> None:
    print(text, flush=True)


def progress(text: str) -> None:
    """Overwrite one line, on a terminal only."""
    if sys.stdout.isatty():
        print(f"\r\033[K{text}", end="", flush=True)


def explain(demo: Demo, error: Untrue) -> None:
    say(f"\nFAILED: this is not true: {error}")
    log = demo.data / "platform.log"
    if log.exists():
        say("the end of the platform's log:\n" + log.read_text(errors="replace")[-3000:])


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="rescoldo-demo-"))
    demo = Demo(folder)
    try:
        demo.run()
    except Untrue as error:
        explain(demo, error)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        demo.stop()
        shutil.rmtree(folder, ignore_errors=True)
    demo.report()
    say("\nEach step was seen to do what it says.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
