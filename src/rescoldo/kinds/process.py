"""Programs in any language that speak HTTP: the deployment names the command and how it takes requests.

Source: of-watchdog's README, "Modes" and "Configuration" (https://github.com/openfaas/of-watchdog): fprocess, mode,
upstream_url. The watchdog forks the program and forwards requests to it; here the edge forwards them, so no process of
the platform stands between the edge and the program.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rescoldo.kinds.protocol import BARE, NODE
from rescoldo.model.errors import BuildFailed, InvalidInput
from rescoldo.model.program import INHERITED, PROCESS, UNIX, Start

if TYPE_CHECKING:
    from rescoldo.model.function import FunctionSpec
    from rescoldo.runtime.starter import Starter

MAX_COMMAND = 4096  # bytes

_HOSTS = ("127.0.0.1", "localhost", "0.0.0.0", "::", "::1")
_ALLOWED = f"use http://127.0.0.1:PORT, {UNIX} or {INHERITED}"
_MISSING = "ModuleNotFoundError: No module named"  # in the output of a Python program


class ProcessKind:
    """A program with an HTTP server of its own. Implements Kind."""

    name = PROCESS
    styles: tuple[str, ...] = (PROCESS,)
    templates: Mapping[str, str] = {}
    handler = ""
    needs_python = False
    takes_command = True
    zygote = BARE
    node = NODE
    says_ready = False
    answers_deadline = False
    least_memory = 2 * 2**20  # measured (1 MiB) and doubled

    def check_source(self, folder: Path, style: str, command: tuple[str, ...]) -> None:
        from rescoldo.runtime.executable import why_not  # imported here because only builds need it

        if not folder.is_dir():
            wrong = "not a folder" if folder.exists() else "the folder does not exist"
            raise BuildFailed(f"{folder}: {wrong}; `handler:` names the folder of the program")
        if not any(folder.iterdir()):
            raise BuildFailed(f"{folder}: the folder is empty; put the program into it")
        name = command[0] if command else ""
        file = folder / name
        if not name or name.startswith("/") or ("/" not in name and not file.exists()):
            return  # a program of the machine that will run it, or no command yet
        if trouble := why_not(file):
            raise BuildFailed(f"{file} {trouble}")

    def recognise(self, template: str, context: Path, handler: Path) -> str:
        return ""  # any folder could hold a program

    def to_edit(self, folder: Path) -> str:
        return f"put your program into {folder}/"

    def claims(self, spec: FunctionSpec) -> bool:
        return bool(_upstream_url(spec))

    def read(self, spec: FunctionSpec) -> Start:
        url = _upstream_url(spec)
        if not url:
            raise InvalidInput(
                "upstream_url is missing, and the function is a program: set fprocess to its command and the "
                "environment variable upstream_url to where it listens, for example http://127.0.0.1:8000"
            )
        command = _command(spec)
        if not command:
            raise InvalidInput("upstream_url is set, but not fprocess; set fprocess to the command of the program")
        if len(command.encode()) > MAX_COMMAND or "\0" in command:
            raise InvalidInput(f"fprocess: the command is not valid; use at most {MAX_COMMAND} bytes and no NUL")
        mode = spec.env_vars.get("mode", "http").strip()
        if mode not in ("", "http"):
            raise InvalidInput(f"mode: {mode[:80]!r} is not supported; use http, or remove upstream_url")
        return Start(self.name, tuple(command.split()), _upstream(url))

    def own_process(self, process: str) -> str:
        return process

    def notes(self, spec: FunctionSpec) -> Iterable[str]:
        return ()

    def starter(self) -> Starter:
        from rescoldo.runtime import program
        from rescoldo.runtime.starter import Executed

        return Executed(program.execute, program.rehearse, program.FOLDER)

    def advice(self, printed: Iterable[str]) -> str:
        missing = any(_MISSING in line for line in printed)
        return "add the missing package to requirements.txt" if missing else ""


def _upstream_url(spec: FunctionSpec) -> str:
    env = spec.env_vars
    return (env.get("upstream_url") or env.get("http_upstream_url") or "").strip()


def _command(spec: FunctionSpec) -> str:
    """Return the command; the deployment's own field overrides the watchdog's variables."""
    env = spec.env_vars
    return (spec.env_process or env.get("fprocess") or env.get("function_process") or "").strip()


def _upstream(url: str) -> str:
    if url in (UNIX, INHERITED):
        return url
    from urllib.parse import urlsplit  # imported here: the zygote for programs does not need it

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInput(f"upstream_url: {url[:200]!r} is not a URL ({error}); {_ALLOWED}") from error
    if parts.scheme != "http" or host not in _HOSTS or parts.path not in ("", "/") or parts.query or parts.username:
        raise InvalidInput(f"upstream_url: {url[:200]!r} is not allowed; {_ALLOWED}")
    if not port:
        raise InvalidInput(f"upstream_url: {url[:200]!r} names no port; write for example http://127.0.0.1:8000")
    return f"tcp:{port}"
