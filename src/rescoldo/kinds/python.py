"""Handlers in Python: `function/handler.py` defines `handle`, which our own runtime calls (runtime/instance.py).

Styles: "http" is handle(event, context); "classic" is handle(req), with text as request and response.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rescoldo.kinds.protocol import NODE, WARM
from rescoldo.model.program import LEAST_MEMORY, PYTHON, Start

if TYPE_CHECKING:
    from rescoldo.model.function import FunctionSpec
    from rescoldo.runtime.starter import Starter

SHOWN = 80  # characters of a user's value that a note quotes
# The commands of OpenFaaS's Python templates. faas-cli sends them with every deployment; they ask for what happens
# anyway.
_TEMPLATES = (("python", "index.py"), ("python3", "index.py"))


class PythonKind:
    """A handler in Python. Implements Kind."""

    name = PYTHON
    styles: tuple[str, ...] = ("http", "classic")
    templates: Mapping[str, str] = {"python3": "classic", "python3-http": "http"}
    handler = "function.handler"
    needs_python = True
    takes_command = False
    zygote = WARM
    node = NODE
    says_ready = True
    answers_deadline = True
    least_memory = LEAST_MEMORY

    def check_source(self, folder: Path, style: str, command: tuple[str, ...]) -> None:
        from rescoldo.kinds.handlerfile import check_handler  # imported here because only builds need it

        check_handler(folder, style)

    def recognise(self, template: str, context: Path, handler: Path) -> str:
        from rescoldo.kinds.handlerfile import style_of

        if not (context / "index.py").is_file() or not (handler / "handler.py").is_file():
            return ""
        return self.templates.get(template) or style_of(handler / "handler.py")

    def to_edit(self, folder: Path) -> str:
        return f"edit {folder}/handler.py"

    def claims(self, spec: FunctionSpec) -> bool:
        return False

    def read(self, spec: FunctionSpec) -> Start:
        return Start(self.name)

    def own_process(self, process: str) -> str:
        return "" if tuple(process.split()) in _TEMPLATES else process

    def notes(self, spec: FunctionSpec) -> Iterator[str]:
        process = " ".join((spec.env_process or spec.env_vars.get("fprocess", "")).split())
        if self.own_process(process):
            yield (
                f"fprocess: {process[:SHOWN]!r} is ignored: a Python function runs its handler; for a program set "
                "upstream_url, too"
            )
        mode = spec.env_vars.get("mode", "").strip()
        if mode not in ("", "http"):
            yield f"mode: {mode[:SHOWN]!r} is ignored: a Python function's handler stays loaded between calls"

    def starter(self) -> Starter:
        from rescoldo.runtime import instance
        from rescoldo.runtime.starter import InProcess

        instance.preload()
        return InProcess(instance.run, instance.rehearse)

    def advice(self, printed: Iterable[str]) -> str:
        return ""  # the runtime advises itself (`advice` in runtime/hiding.py)
