"""An HAProxy in front of several platforms, with the settings of a gateway that hashes functions to them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from rescoldo.edge import process
from support.ports import free_ports

_CONFIG = """\
global
  maxconn 500
defaults
  mode http
  timeout client 60s
  timeout http-keep-alive 60s
  timeout connect 250ms
  timeout server 200s
  option http-no-delay
frontend front
  bind 127.0.0.1:{port}
  http-request set-var(txn.fn) path,field(3,/)
  default_backend workers
backend workers
  balance hash var(txn.fn)
  hash-type consistent crc32 avalanche
  retries 5
  option redispatch 1
  retry-on conn-failure empty-response
  acl repeatable method GET HEAD PUT DELETE OPTIONS TRACE
  http-request set-header Connection close unless repeatable
  http-request disable-l7-retry unless repeatable
  option httpchk GET /healthz
  http-check disable-on-404
{servers}"""
_SERVER = (
    "weight 100 check inter 250ms fastinter 100ms downinter 100ms fall 2 rise 1 "
    "observe layer4 error-limit 1 on-error fastinter on-marked-down shutdown-sessions"
)


class Balancer:
    """Runs while its `with` block does."""

    def __init__(self, *addresses: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="rl-balancer-", dir="/tmp"))
        (self.port,) = free_ports(1)
        self._addresses = addresses

    def __enter__(self) -> Balancer:
        lines = [
            f"  server w{number} {address} id {number} {_SERVER}\n"
            for number, address in enumerate(self._addresses, start=1)
        ]
        config = self._folder / "haproxy.cfg"
        config.write_text(_CONFIG.format(port=self.port, servers="".join(lines)))
        binary = process.binary()
        self._process = subprocess.Popen(
            process.command(binary, config),
            env={**os.environ, **process.environment(binary)},
            stderr=subprocess.DEVNULL,
        )
        self._until_open()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder)

    def _until_open(self) -> None:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "the balancer does not start"
                time.sleep(0.01)
