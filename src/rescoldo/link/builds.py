"""The program of a build's pod: it gets its archive from control, builds it, and sends what it has made.

The build itself is the one of a machine (control/deploy/building.py), in a process of its own. Its messages go to
control as they come, in one request. The standard library alone: the program does one thing after another.
"""

from __future__ import annotations

import http.client
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any
from urllib.parse import urlsplit

from rescoldo.link.identity import Identity
from rescoldo.link.protocol import BUILD_PATH
from rescoldo.model.errors import InvalidInput, RescoldoError
from rescoldo.model.text import read_json

BUILDING = "rescoldo.control.deploy.building"
POD = "pod"  # as BUILDING has it
CONNECT_SECONDS = 30.0  # a network policy may let a new pod out a moment after its start
RETRY_SECONDS = 0.5
ANSWER_SECONDS = 60.0
MOST_TEXT = 500  # characters of an error's text


class ControlFailed(RescoldoError):
    """Control did not answer as it should."""


class BuildClient:
    """Speaks to control for one build."""

    def __init__(self, url: str, tls: ssl.SSLContext) -> None:
        """Raises InvalidInput for another URL than https://HOST:PORT."""
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise InvalidInput(f"--control: {url[:80]!r} is no URL; use https://rescoldo-control.rescoldo.svc:8443")
        self._host, self._port, self._tls = parts.hostname, parts.port, tls

    def fetch(self, archive: Path) -> None:
        """Write the archive of this build. Raises ControlFailed."""
        with archive.open("xb") as file, self._asked("GET", "archive") as answer:
            shutil.copyfileobj(answer, file)

    def tell(self, lines: Iterator[bytes]) -> None:
        """Send messages as they come, until there are no more. Raises ControlFailed."""
        with self._asked("POST", "messages", lines):
            pass

    def send(self, part: str, path: Path) -> None:
        """Send a file that was built. Raises ControlFailed."""
        headers = {"Content-Length": str(path.stat().st_size)}
        with path.open("rb") as file, self._asked("PUT", part, file, headers):
            pass

    @contextmanager
    def _asked(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] = MappingProxyType({})
    ) -> Iterator[IO[bytes]]:
        """The body of an answer. Each request has a connection of its own: a build may take long between."""
        try:
            with closing(self._connect()) as connection:
                connection.request(method, f"{BUILD_PATH}/{path}", body, headers)
                with connection.getresponse() as answer:
                    if answer.status >= 300:
                        text = answer.read(MOST_TEXT).decode(errors="replace").strip()
                        raise ControlFailed(f"control answers {answer.status} to {method} {path}: {text}")
                    yield answer
        except (OSError, http.client.HTTPException) as error:
            raise ControlFailed(f"control at {self._host}:{self._port} cannot be reached: {error}") from error

    def _connect(self) -> http.client.HTTPSConnection:
        end = time.monotonic() + CONNECT_SECONDS
        while True:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=ANSWER_SECONDS, context=self._tls
            )
            try:
                connection.connect()
            except OSError:
                connection.close()
                if time.monotonic() > end:
                    raise
                time.sleep(RETRY_SECONDS)
            else:
                return connection


def run_build(control: str, identity: Path, work: Path) -> None:
    """Build what control has for the build of `identity`, in the folder `work`. Raises InvalidInput, ControlFailed.

    A build that fails is a success here: control was told.
    """
    client = BuildClient(control, Identity(identity).read())
    for name in ("home", "tmp"):
        (work / name).mkdir(exist_ok=True)
    upload = work / "upload.tar"
    client.fetch(upload)
    results: dict[str, str] = {}
    client.tell(_messages(upload, work, results))
    if results.get("layer"):
        client.send("layer", Path(results["layer"]))
    if "built" in results:
        client.send("bundle", Path(results["built"]))


def _messages(upload: Path, work: Path, results: dict[str, str]) -> Iterator[bytes]:
    """Run the build; yield its messages, and put the paths of the last one into `results`."""
    places = (upload, *(work / name for name in ("tree", "out", "requirements")))
    argv = [sys.executable, "-P", "-m", BUILDING, *map(str, places), POD]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd="/") as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                message = read_json(line)
                if "built" in message:
                    results.update(message)
                yield line
            process.wait()
        finally:
            process.terminate()  # control no longer listens
    if process.returncode:
        yield b'{"failed": "the build\'s process ended with exit status %d"}\n' % process.returncode
