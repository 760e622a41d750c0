"""The edge with few descriptors, as in a pod: a real HAProxy under the hard limit for which its file was written."""

from __future__ import annotations

import os
import re
import resource
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from rescoldo.edge import config, process
from rescoldo.model.settings import Settings
from support.patience import until
from support.ports import free_ports


@pytest.fixture(params=[20_000, 4_096, 1_024])
def running(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The settings of an edge that runs under a hard limit of descriptors."""
    gateway, metrics, inside = (f"127.0.0.1:{port}" for port in free_ports(3))
    settings = Settings(str(tmp_path), str(tmp_path), gateway=gateway, metrics=metrics)
    (tmp_path / "s").mkdir()
    limit = (request.param, request.param)
    with monkeypatch.context() as patch:
        patch.setattr(resource, "getrlimit", lambda _: limit)
        file = config.write(settings, settings.slots)
    binary = process.binary_for(settings)
    edge = subprocess.Popen(
        [binary, "-db", "-f", str(file)],
        env={**os.environ, **process.environment(binary), "RESCOLDO_INSIDE": inside},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit),
        stderr=subprocess.DEVNULL,
    )
    try:
        yield settings
    finally:
        edge.kill()
        edge.wait()


async def test_the_edge_starts_and_takes_as_many_connections_as_its_descriptors_allow(running: Settings) -> None:
    def told() -> str:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(running.admin_socket))
            admin.sendall(b"show info\n")
            return admin.makefile().read()
        return ""

    await until(lambda: "Maxconn" in told())
    info = dict(re.findall(r"^(\w+): (\d+)$", told(), re.MULTILINE))
    in_file = re.search(r"^  maxconn (\d+)", config.config_file(running).read_text(), re.MULTILINE)
    assert in_file is not None
    assert info["Maxconn"] == in_file[1]  # HAProxy lowers it when its sockets need more descriptors than it may open
    assert int(info["Maxsock"]) >= 2 * int(info["Maxconn"])
