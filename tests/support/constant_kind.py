"""A toy kind of function, complete: the text of the bundle's answer.txt is the response to each call.

With a copy of this module in kinds/ and its line in kinds/registry.py, the platform builds, deploys and runs it:
tests/unit/kinds/test_toy_kind.py.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rescoldo.kinds.protocol import NODE, WARM
from rescoldo.model.errors import BuildFailed
from rescoldo.model.program import Start

if TYPE_CHECKING:
    import socket

    from rescoldo.model.function import FunctionSpec
    from rescoldo.model.instance import Launch
    from rescoldo.runtime.starter import Starter

ANSWER = "answer.txt"


class ConstantKind:
    """Answers each call with the same text. Implements Kind."""

    name = "constant"
    styles: tuple[str, ...] = ("constant",)
    templates: Mapping[str, str] = {}
    handler = ""
    needs_python = False
    takes_command = False
    zygote = WARM
    node = NODE
    says_ready = True
    answers_deadline = False
    least_memory = 8 * 2**20

    def check_source(self, folder: Path, style: str, command: tuple[str, ...]) -> None:
        if not (folder / ANSWER).is_file():
            raise BuildFailed(f"{folder}: no {ANSWER} in it; write the answer into it")

    def recognise(self, template: str, context: Path, handler: Path) -> str:
        return ""

    def to_edit(self, folder: Path) -> str:
        return f"edit {folder}/{ANSWER}"

    def claims(self, spec: FunctionSpec) -> bool:
        return False

    def read(self, spec: FunctionSpec) -> Start:
        return Start(self.name)

    def own_process(self, process: str) -> str:
        return process

    def notes(self, spec: FunctionSpec) -> Iterable[str]:
        if spec.env_process:
            yield "fprocess: is not run: the answer is a constant"

    def starter(self) -> Starter:
        from rescoldo.runtime.starter import InProcess

        return InProcess(_serve, lambda: None)

    def advice(self, printed: Iterable[str]) -> str:
        return ""


def _serve(launch: Launch, listener: socket.socket, status: int) -> int:
    """Serve in a fork; the current directory is the unpacked bundle."""
    answer = Path("function", ANSWER).read_bytes()
    head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(answer)}\r\n\r\n".encode()
    os.write(status, b'{"ready": true}\n')
    os.close(status)
    listener.setblocking(False)
    while True:
        select.select([listener], [], [])
        try:
            client, _ = listener.accept()
        except BlockingIOError:
            continue
        client.setblocking(True)
        with client:
            client.recv(65536)
            client.sendall(head + answer)
