"""Runs HAProxy without any rule of ours in front of one server, to tell the proxy's own share of the edge's cost."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from client import get_ok
from rescoldo.edge.process import binary, command, environment
from support.live import Live
from support.ports import free_ports

CONFIG = """
global
  nbthread 1
  maxconn 2000
defaults
  mode http
  timeout client 60s
  timeout connect 5s
  timeout server 60s
frontend gateway
  bind 127.0.0.1:{port}
  default_backend upstream
backend upstream
  http-reuse always
  server only {address}
"""


@dataclass(frozen=True, slots=True)
class BareProxy:
    pid: int
    port: int  # on 127.0.0.1


@contextmanager
def running(live: Live, address: str) -> Iterator[BareProxy]:
    """Run the edge's HAProxy with the edge's default number of threads in front of `address` (as in a `server`
    line)."""
    (port,) = free_ports(1)
    config = live.folder / f"bare-{port}.cfg"
    config.write_text(CONFIG.format(port=port, address=address))
    path = binary()
    process = subprocess.Popen(command(path, config), env=environment(path), stderr=subprocess.DEVNULL)
    try:
        live.until(lambda: _answers(port), "the bare proxy to answer")
        yield BareProxy(process.pid, port)
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        get_ok(port, "/")
    except ConnectionRefusedError:
        return False
    return True
