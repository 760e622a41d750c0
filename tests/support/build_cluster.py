"""A cluster in memory for builds in pods, with a link that is there and a kubelet that runs pods as processes."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rescoldo.api.link import create_link
from rescoldo.api.server import MutualTls, PeerServer
from rescoldo.bundle.builder import BuildLimits
from rescoldo.cluster.authority import Authority, Subject
from rescoldo.cluster.build_pod import PODS, TEMPLATES
from rescoldo.cluster.identities_wanted import client_files
from rescoldo.cluster.pod_builder import BUILD_URI, PodBuilder
from rescoldo.control.deploy.build_context import image_of
from rescoldo.install.objects.build import builds
from rescoldo.install.rendering import render
from rescoldo.install.values import Values
from rescoldo.kube.fake import FakeCluster
from rescoldo.kube.follow import Changed, Follower, Gone, Snapshot
from rescoldo.kube.protocol import Object
from rescoldo.kube.secrets import SECRETS
from rescoldo.link.fake import MemoryControl
from rescoldo.link.protocol import Control
from rescoldo.model.errors import InvalidInput

NAMESPACES = ("openfaas-fn", "blue")
MOST = 2**26  # bytes of a bundle


@dataclass
class Report:
    """Keeps what a build tells."""

    image: str = ""
    lines: list[str] = field(default_factory=list)

    def name(self, image: str) -> None:
        self.image = image

    def say(self, line: str) -> None:
        self.lines.append(line)


class BuildCluster:
    """Has templates of the installation itself. `run_pods`: whether the kubelet runs what is made."""

    def __init__(self, folder: Path) -> None:
        self.cluster = FakeCluster()
        self.folder = folder
        self.authority = Authority.make("test", time.time())
        self.url = ""
        self.run_pods = True
        self.processes: dict[str, asyncio.subprocess.Process] = {}  # by pod
        self.builder = PodBuilder(
            self.cluster, NAMESPACES, self.issue, image_of, BuildLimits(seconds=30.0), MOST
        )

    def issue(self, uri: str) -> Mapping[str, bytes]:
        return client_files(uri, self.authority, time.time())

    def identity(self, uri: str, name: str) -> Path:
        """A folder with the identity of a client."""
        return self._written(self.issue(uri), self.folder / name)

    async def pods(self) -> list[Object]:
        return [pod async for page in self.cluster.list(PODS) for pod in page.items]

    async def left(self) -> list[str]:
        """The names of all Pods and Secrets."""
        secrets = [one async for page in self.cluster.list(SECRETS) for one in page.items]
        return [one["metadata"]["name"] for one in [*await self.pods(), *secrets]]

    async def set_status(self, status: Mapping[str, Any]) -> None:
        """Give the only pod a status."""
        (pod,) = await self.pods()
        meta = pod["metadata"]
        await self.cluster.patch(PODS, meta["name"], {"status": status}, meta["namespace"])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[BuildCluster]:
        values = Values(image="rescoldo:1", function_namespaces=NAMESPACES)
        for template in render(builds(), values):
            await self.cluster.create(TEMPLATES, template)
        listener, stop = socket.create_server(("127.0.0.1", 0)), asyncio.Event()
        self.url = f"https://localhost:{listener.getsockname()[1]}"
        served = asyncio.ensure_future(self._link().serve(listener, stop))
        kubelet = asyncio.ensure_future(self._kubelet())
        try:
            yield self
        finally:
            kubelet.cancel()
            await asyncio.wait((kubelet,))
            for process in self.processes.values():
                await _kill(process)
            stop.set()
            await served

    def _link(self) -> PeerServer:
        pair = self.authority.issue(Subject("localhost", hosts=("localhost",)), time.time())
        files = {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": self.authority.pair.certificate}
        folder = self._written(files, self.folder / "control")
        tls = MutualTls(folder / "tls.crt", folder / "tls.key", folder / "ca.crt")
        return PeerServer(create_link(_worker_of, self.builder.desk_of), tls, BUILD_URI)

    async def _kubelet(self) -> None:
        def same(pod: Object) -> Object:
            return pod

        async with aclosing(Follower(self.cluster, PODS, same).changes()) as changes:
            async for change in changes:
                if isinstance(change, Gone) and change.name in self.processes:
                    await _kill(self.processes[change.name])
                for pod in change.objects if isinstance(change, Snapshot) else ():
                    await self._start(pod)
                if isinstance(change, Changed):
                    await self._start(change.object)

    async def _start(self, pod: Object) -> None:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        if name in self.processes or not self.run_pods:
            return
        (volume,) = [one for one in pod["spec"]["volumes"] if one["name"] == "identity"]
        secret = await self.cluster.get(SECRETS, volume["secret"]["secretName"], namespace)
        files = {key: base64.b64decode(value) for key, value in secret["data"].items()}
        identity, work = self._written(files, self.folder / f"{name}-id"), self.folder / name
        work.mkdir()
        # of `env` alone PATH is missing: an image has it
        env = {"PATH": os.environ["PATH"], "HOME": str(work / "home"), "TMPDIR": str(work / "tmp")}
        env |= {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "UV_"))}
        argv = ("kubernetes", "build", "--control", self.url, "--identity", str(identity), "--work", str(work))
        assert pod["spec"]["containers"][0]["args"][:2] == list(argv[:2])
        self.processes[name] = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rescoldo.cli", *argv, env=env, cwd="/", stderr=asyncio.subprocess.PIPE
        )
        self._ending = asyncio.ensure_future(self._end(name, namespace))

    async def _end(self, name: str, namespace: str) -> None:
        """Tell the end of a pod's process."""
        _, said = await self.processes[name].communicate()
        status = self.processes[name].returncode
        terminated = {"exitCode": status, "message": said.decode()[-2000:]}
        phase = "Failed" if status else "Succeeded"
        with suppress(Exception):  # its pod may be gone
            await self.cluster.patch(
                PODS, name, {"status": {"phase": phase, "containerStatuses": [{"state": {"terminated": terminated}}]}},
                namespace,
            )  # fmt: skip

    def _written(self, files: Mapping[str, bytes], folder: Path) -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return folder


def _worker_of(uris: Any) -> Control:
    if "rescoldo://pool/openfaas-fn" not in uris:
        raise InvalidInput("this certificate is of no pool here")
    return MemoryControl()


async def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
