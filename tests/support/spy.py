"""A hostile function that looks for its worker's key and its pool's secret, by paths, processes and sockets.

Its body is an object with the names of `search`; its answer is the list of what gave something. Run as a program, it
reads the same object from standard input.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

MARKS = (b"PRIVATE KEY", b"secret-of-the-pool", b"BEGIN CERTIFICATE")
MOST = 2**22  # bytes read of one file


def handle(event: Any, _: Any) -> str:
    return json.dumps(search(**json.loads(event.body)))


class Finds:
    """What was gained so far."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def attempt(self, what: str, read: Callable[[], object]) -> None:
        """Count `what` as gained if `read` returns bytes with one of MARKS, or anything else that is true."""
        try:
            found = read()
        except (OSError, ValueError):
            return
        if any(mark in found for mark in MARKS) if isinstance(found, bytes) else found:
            self.names.add(what)


def search(identity: str, run: str, pids: Iterable[int]) -> list[str]:
    """Try everything; `pids` are the platform's processes, as seen from outside."""
    finds = Finds()
    names = ("tls.key", "pool-secret", "tls.crt", "ca.crt")
    places = [*(f"{identity}/{name}" for name in names), f"{run}/edge/pool.map"]
    for folder in (identity, f"{run}/edge"):
        finds.attempt(f"list {folder}", partial(entries, folder))
    for place in places:
        finds.attempt(place, partial(content, place))
        finds.attempt(f"symbolic link to {place}", partial(linked, place, Path.symlink_to))
        finds.attempt(f"hard link to {place}", partial(linked, place, Path.hardlink_to))
    for pid in dict.fromkeys((1, os.getppid(), *pids)):
        if pid not in (0, os.getpid()):
            search_process(finds, f"/proc/{pid}", identity, places)
    for number in range(100):
        finds.attempt(f"own descriptor {number}", partial(names_it, f"/proc/self/fd/{number}", identity))
    finds.attempt("own environment", partial(content, "/proc/self/environ"))
    for name, request in (
        ("edge/admin.sock", f"show map {run}/edge/pool.map\n"),
        ("s/api.sock", "GET /system/functions HTTP/1.0\r\n\r\n"),
        ("node.sock", '{"id": 1, "op": "ping"}\n'),
    ):
        finds.attempt(name, partial(asked, f"{run}/{name}", request))
    return sorted(finds.names)


def search_process(finds: Finds, proc: str, identity: str, places: Sequence[str]) -> None:
    """Search another process: its root, environment, descriptors and memory."""
    for place in (*(f"/root{place}" for place in places), "/environ", "/cmdline"):
        finds.attempt(f"{proc}{place}", partial(content, f"{proc}{place}"))
    finds.attempt(f"{proc}/mem", partial(heap, proc))
    for number in range(100):
        descriptor = f"{proc}/fd/{number}"
        finds.attempt(descriptor, partial(content, descriptor))
        finds.attempt(f"name of {descriptor}", partial(names_it, descriptor, identity))


def entries(folder: str) -> list[Path]:
    return list(Path(folder).iterdir())


def content(path: str) -> bytes:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        return file.read(MOST) or b""


def linked(place: str, link: Callable[[Path, str], None]) -> bytes:
    mine = Path(os.environ.get("TMPDIR", "/tmp"), f"mine-{os.getpid()}")
    link(mine, place)
    try:
        return content(str(mine))
    finally:
        mine.unlink()


def names_it(descriptor: str, identity: str) -> bool:
    return identity in str(Path(descriptor).readlink())


def heap(proc: str) -> bytes:
    with Path(f"{proc}/maps").open() as maps, Path(f"{proc}/mem").open("rb", 0) as memory:
        for line in maps:
            if "[heap]" in line:
                begin, end = (int(part, 16) for part in line.split()[0].split("-"))
                memory.seek(begin)
                return memory.read(min(MOST, end - begin)) or b""
    return b""


def asked(path: str, request: str) -> bool:
    with socket.socket(socket.AF_UNIX) as mine:
        mine.settimeout(5)
        mine.connect(path)
        mine.sendall(request.encode())
        return bool(mine.recv(10))


if __name__ == "__main__":
    print(json.dumps(search(**json.loads(sys.stdin.read()))))
