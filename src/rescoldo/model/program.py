"""A function that is a program speaking HTTP: its command, and how it takes requests.

Source: https://github.com/openfaas/of-watchdog (fprocess, mode, upstream_url). There the watchdog forks the program and
forwards to it; here the edge does, so that nothing stands in front of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from rescoldo.model.errors import InvalidInput

PROCESS = "process"  # the kind of a bundle, and the style of a template, that holds a program
UNIX = "unix"  # the program binds the Unix socket whose path $SOCKET holds
INHERITED = "inherited"  # the program accepts on descriptor 3, as systemd's socket activation hands it over
MAX_COMMAND = 4096  # bytes

_TEMPLATES = frozenset((("python", "index.py"), ("python3", "index.py")))  # fprocess of OpenFaaS's Python templates
_HOSTS = ("127.0.0.1", "localhost", "0.0.0.0", "::", "::1")
_ALLOWED = f"use http://127.0.0.1:PORT, {UNIX} or {INHERITED}"


@dataclass(frozen=True, slots=True)
class Program:
    """What is exec'd as an instance."""

    command: tuple[str, ...]
    upstream: str  # as in Launch: "tcp:PORT", "unix" or "inherited"

    @property
    def at_port(self) -> bool:
        """Whether it takes requests at a TCP port."""
        return self.upstream.startswith("tcp:")


def program_of(env_process: str, env: Mapping[str, str]) -> Program | None:
    """The program that a function's process and variables describe; None where no upstream_url is set: what the
    bundle holds decides then. Raises InvalidInput naming the variable.

    `env_process` is the deployment's field (fprocess in stack.yaml); without it the variable counts.
    """
    url = _upstream_url(env)
    if not url:
        return None
    command = (env_process or env.get("fprocess") or env.get("function_process") or "").strip()
    if not command:
        raise InvalidInput("upstream_url is set and fprocess is not; set fprocess to the command of the program")
    if len(command.encode()) > MAX_COMMAND or "\0" in command:
        raise InvalidInput(f"fprocess: the command is not valid; use at most {MAX_COMMAND} bytes and no NUL")
    mode = env.get("mode", "http").strip()
    if mode not in ("", "http"):
        raise InvalidInput(f"mode: {mode[:80]!r} is not supported; use http, or remove upstream_url")
    return Program(tuple(command.split()), _upstream(url))


def own_process(env_process: str, env: Mapping[str, str]) -> str:
    """`env_process` as the deployment of a Python bundle means it: empty where it is what OpenFaaS's templates for
    Python have, which faas-cli sends and `rescoldo` does not. It says nothing here."""
    return "" if not _upstream_url(env) and tuple(env_process.split()) in _TEMPLATES else env_process


def _upstream_url(env: Mapping[str, str]) -> str:
    return (env.get("upstream_url") or env.get("http_upstream_url") or "").strip()


def _upstream(url: str) -> str:
    if url in (UNIX, INHERITED):
        return url
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
