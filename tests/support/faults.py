"""Faults of a cluster's parts, made from outside: of processes in pods, of pods' networks, of the API server."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from support.testcluster import KubectlFailed, cluster, kubectl

API_SERVER = "kube-apiserver"
# seconds; an API server that is stopped accepts nothing more, but goes on with open requests for 60 s: a watch is heard
# of until it ends
GRACEFUL = 75.0
API_SERVICE = ("10.215.0.1", 443)  # as pods reach it, once kube-proxy has heard of it again: that takes up to 30 s
PAUSE = "/pause"  # the process that holds a pod's namespaces
BRIDGE = "cni0"  # of the node, to which the pods' interfaces are connected
END_SECONDS = 10.0  # until a killed process has ended

# -- processes


def processes(pod: dict[str, Any]) -> list[int]:
    """The processes in a pod, seen from outside, but for the one that holds its namespaces."""
    uid = pod["metadata"]["uid"]
    found = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cgroup")
        if f"pod{uid}" in _text(path).replace("_", "-")
    ]
    return [process for process in found if command(process).strip() not in ("", PAUSE)]


def command(process: int) -> str:
    return _text(Path(f"/proc/{process}/cmdline")).replace("\0", " ")


def with_word(pod: dict[str, Any], word: str) -> list[int]:
    """The processes in a pod that have a word in their commands, the oldest first."""
    return sorted(process for process in processes(pod) if word in command(process))


def first_process(pod: dict[str, Any]) -> int:
    """The first process of a pod's only container: the kernel ends all others with it."""
    return min(process for process in processes(pod) if _number_inside(process) == "1")


def kill(process: int) -> float:
    """Kill a process, as the node does that has no memory left; return when it had ended, on the monotonic clock."""
    descriptor = os.pidfd_open(process)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        assert select.select([descriptor], [], [], END_SECONDS)[0], f"{process} does not end"
        return time.monotonic()
    finally:
        os.close(descriptor)


def _number_inside(process: int) -> str:
    """Its number in its own PID namespace."""
    lines = [line for line in _text(Path(f"/proc/{process}/status")).splitlines() if line.startswith("NSpid:")]
    return lines[0].split()[-1] if lines else ""


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended
        return ""


# -- networks


@contextmanager
def cut_off(pod: dict[str, Any]) -> Iterator[float]:
    """Cut a pod's network, as if its cable were drawn; yield the time, on the monotonic clock."""
    (own,) = json.loads(_inside(pod, "ip", "-json", "link", "show", "eth0"))
    links = json.loads(cluster("enter", "ip", "-json", "link", "show", "master", BRIDGE))
    (name,) = [link["ifname"] for link in links if link["ifindex"] == own["link_index"]]
    cluster("enter", "ip", "link", "set", name, "down")
    try:
        yield time.monotonic()
    finally:
        cluster("enter", "ip", "link", "set", name, "up")


@contextmanager
def parted(*pairs: tuple[dict[str, Any], dict[str, Any]]) -> Iterator[None]:
    """Part pods: the first of each pair hears the second one, and its answers get lost."""
    with ExitStack() as lost:
        for pod, other in pairs:
            route = ("blackhole", f"{other['status']['podIP']}/32")
            _inside(pod, "ip", "route", "add", *route)
            lost.callback(_inside, pod, "ip", "route", "delete", *route)
        yield


def _inside(pod: dict[str, Any], *arguments: str) -> str:
    """Run a command of this machine in a pod's network."""
    process = processes(pod)[0]
    done = subprocess.run(
        ["nsenter", f"--target={process}", "--net", "--", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- the API server


def api_server_answers() -> bool:
    try:
        return kubectl("get", "--raw", "/readyz") == "ok"
    except KubectlFailed:
        return False


def end_api_server() -> None:
    """End it at once; it stays away."""
    cluster("stop", API_SERVER)
    cluster("kill", API_SERVER)


def restore_api_server() -> None:
    """Start it, if it does not run; return when it answers, for pods, too."""
    cluster("start", API_SERVER)
    deadline = time.monotonic() + GRACEFUL
    while not (api_server_answers() and _is_open(API_SERVICE)):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _is_open(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=1.0).close()
    except OSError:
        return False
    return True
