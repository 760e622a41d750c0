"""The victim: a function with a marker in every place that another function could read."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import suppress

MARKER = "HOSTILE-MARKER"
SYSV_KEY = 0x5E57
QUEUE = "hostile-marker-queue"
SHM = f"{MARKER}-posix"
ABSTRACT = f"{MARKER}-{os.getpid()}-{os.urandom(4).hex()}"
FIRST_PORT = int(os.environ.get("VICTIMS_PORT", "27701"))
PORTS = (FIRST_PORT, FIRST_PORT + 1)
LIBC = ctypes.CDLL(None, use_errno=True)
REMEMBERED = ctypes.create_string_buffer(f"{MARKER}-{os.environ.get('VICTIMS_OWN', '')}".encode())
SERVERS: list[socket.socket] = []


def _answer(server: socket.socket) -> None:
    while True:
        client, _ = server.accept()
        with client, suppress(OSError):
            client.sendall(MARKER.encode())


def _serve(server: socket.socket) -> None:
    SERVERS.append(server)
    threading.Thread(target=_answer, args=(server,), daemon=True).start()


def settle() -> None:
    """Put a marker everywhere; places that the level forbids get none."""
    for folder in ("/tmp", "/var/tmp", "/dev/shm", os.environ["TMPDIR"]):
        with suppress(OSError), open(f"{folder}/{MARKER}-{os.getuid()}", "w") as file:
            file.write(MARKER)
    with suppress(OSError), open(f"/dev/shm/{SHM}", "w") as file:
        file.write(MARKER)
    LIBC.shmget(SYSV_KEY, 4096, 0o1666)
    LIBC.semget(SYSV_KEY, 1, 0o1666)
    LIBC.msgget(SYSV_KEY, 0o1666)
    with suppress(AttributeError):
        LIBC.mq_open(f"/{QUEUE}".encode(), os.O_CREAT | os.O_RDWR, 0o666, None)
    with suppress(OSError):
        server = socket.socket(socket.AF_UNIX)
        server.bind(f"\0{ABSTRACT}")
        server.listen()
        _serve(server)
        datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        datagrams.bind(f"\0{ABSTRACT}-datagrams")
        SERVERS.append(datagrams)
    for host, port in (("0.0.0.0", PORTS[0]), ("127.0.0.1", PORTS[1]), ("127.0.0.1", 0)):
        with suppress(OSError):
            _serve(socket.create_server((host, port)))
    with suppress(OSError):
        _serve(socket.create_server(("::1", PORTS[1]), family=socket.AF_INET6))


def _ports_of_the_kernels_choice() -> set[int]:
    ports = {server.getsockname()[1] for server in SERVERS if server.family == socket.AF_INET}
    return ports - set(PORTS)


def handle(event: object, context: object) -> str:
    """Describe the victim, for the tests and not for the attacker."""
    return json.dumps(
        {
            "uid": os.getuid(),
            "address": ctypes.addressof(REMEMBERED),
            "abstract": ABSTRACT,
            "ports": [*PORTS, *_ports_of_the_kernels_choice()],
            "sysv_key": SYSV_KEY,
            "queue": QUEUE,
            "shm": SHM,
            "code": os.getcwd(),
            "tmp": os.environ["TMPDIR"],
            "listens": [str(server.getsockname()) for server in SERVERS],
        }
    )


def run_program() -> subprocess.Popen[bytes]:
    """Start a child that waits: an exec'd process does not inherit its parent's protection against tracing."""
    path = f"{os.environ['TMPDIR']}/victims-program"
    shutil.copyfile("/bin/cat", path)
    os.chmod(path, 0o700)
    return subprocess.Popen([path], stdin=subprocess.PIPE)


settle()
CHILD = run_program()
if __name__ == "__main__":  # without a platform: the proof that attacks work runs this file directly
    print(handle(None, None), flush=True)
    sys.stdin.read()
