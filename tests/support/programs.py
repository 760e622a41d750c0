"""A program for tests: an HTTP server that its environment and its requests control."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from support.live import Live, alive

SERVER = r"""
import json, os, signal, socket, sys, threading, time

print("hello from the program", flush=True)
time.sleep(float(os.environ.get("DELAY", "0")))
if "EXIT" in os.environ:
    sys.exit(int(os.environ["EXIT"]))
if "TERM_IGNORED" in os.environ:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "TERM_CAUGHT" in os.environ:
    signal.signal(signal.SIGTERM, lambda *_: (print("told to end", flush=True), os._exit(0)))
if "TERM_SECONDS" in os.environ:  # goes on for a while, as what ends gracefully
    ending = threading.Event()
    def linger(*_):
        print("asked to end", flush=True)
        ending.set()
        threading.Timer(float(os.environ["TERM_SECONDS"]), os._exit, (0,)).start()
    signal.signal(signal.SIGTERM, linger)
if "LISTEN_FDS" in os.environ:
    listener = socket.socket(fileno=3)
elif "SOCKET" in os.environ:
    if "LINK_TO" in os.environ:
        os.symlink(os.environ["LINK_TO"], os.environ["SOCKET"])
        time.sleep(60)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.environ["SOCKET"])
    listener.listen()
else:
    host = os.environ.get("HOST", "127.0.0.1")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, int(os.environ["PORT"])), family=family, dualstack_ipv6=":" in host)


def links(folder):
    for name in os.listdir(folder):
        try:
            yield name, os.readlink(f"{folder}/{name}")
        except OSError:
            pass  # the folder's own


def reach(address):
    try:
        with socket.create_connection(address, 1):
            return "reached"
    except OSError as error:
        return type(error).__name__


def answer(client):
    head = client.recv(65536).decode()
    if not head:  # somebody only looked whether we listen
        return client.close()
    path = head.split()[1]
    if path.startswith("/crash"):
        print("RUN", path, flush=True)
        os._exit(7)
    if path.startswith("/leave"):  # a child that has the listening socket, and survives a signal to the group
        if os.fork() == 0:
            os.setpgid(0, 0)
            time.sleep(600)
        os._exit(7)
    if path.startswith("/close"):
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    if path.startswith("/wait"):  # for the end, which is not yet
        print("waiting", flush=True)
        ending.wait()
        time.sleep(2)
    if path.startswith("/hangup"):
        print("RUN", path, flush=True)
        return client.close()
    if path.startswith("/eats"):
        print("RUN", path, flush=True)
        bytearray(300 * 2**20)
    if path.startswith("/deaf/"):
        deaf_for.append(float(path.partition("/deaf/")[2]))
    if path.startswith("/slow"):
        print("RUN", path, flush=True)
        time.sleep(float(path.partition("/slow/")[2].partition("?")[0]))
    if path.startswith("/reach/"):
        _, _, host, port = path.split("/")
        seen = {"result": reach((host, int(port)))}
    else:
        sent, body = head.partition("\r\n\r\n")[::2]
        seen = {
            "pid": os.getpid(), "uid": os.getuid(), "cwd": os.getcwd(), "argv": sys.argv[1:], "env": dict(os.environ),
            "fds": dict(links("/proc/self/fd")), "path": path, "head": sent, "body": body,
        }
    reply = json.dumps(seen).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    client.sendall(head % len(reply) + reply)
    client.close()


def accepted():
    try:
        return listener.accept()[0]
    except OSError:  # it has been closed
        time.sleep(600)


deaf_for = []
while True:
    thread = threading.Thread(target=answer, args=(accepted(),), daemon=True)
    thread.start()
    if "MAY_BE_DEAF" in os.environ:  # then one request at a time
        thread.join()
    if deaf_for:
        listener.close()
        print("deaf now", flush=True)
        time.sleep(deaf_for.pop())
        listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
"""


def write_server(folder: Path) -> Path:
    """Write the program as an executable script `server` into `folder`; it runs with a Python that any user may
    execute."""
    folder.mkdir(parents=True, exist_ok=True)
    python = shutil.which("python3", path="/usr/local/bin:/usr/bin")
    file = folder / "server"
    file.write_text(f"#!{python} -S\n{SERVER}")
    file.chmod(0o755)
    return file


def leave_the_port(live: Live, server: Path, name: str, upstream: str) -> None:
    """Make a deployed program close its listener during another call; check that the call succeeds and that the
    platform replaces the process."""
    notes = {"rescoldo.dev/grace": "20s"}
    live.deploy_program(name, server, "./server", upstream, annotations=notes, envVars={"TERM_SECONDS": "5"})
    assert live.invoke(name).status == 200
    (pid,) = live.instance_pids(name)
    answers: list[int] = []
    long = threading.Thread(target=lambda: answers.append(live.call("GET", f"/function/{name}/wait").status))
    long.start()
    live.until(lambda: "waiting" in live.function_log(name), "the call to begin")
    assert live.call("GET", f"/function/{name}/close").status == 200
    live.until(lambda: live.invoke(name).status == 200, "another instance")
    long.join()
    assert answers == [200]
    assert "nobody listens at its port" in live.function_log(name)
    live.until(lambda: not alive(pid), "its end")
    live.sleep(name)
