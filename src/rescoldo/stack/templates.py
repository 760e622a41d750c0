"""Templates: what `lang:` names. A project's ./template/LANG wins over the one that comes with rescoldo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rescoldo.model.errors import BuildFailed, InvalidInput
from rescoldo.model.program import PROCESS
from rescoldo.stack.document import Document, Value, parse, suggestion
from rescoldo.stack.source import read_source

BUILT_IN = Path(__file__).parent.parent / "templates"
STYLES = ("http", "classic")
# Templates that faas-cli pulls do not know our key; these are known by their contract.
STYLE_BY_NAME = {
    "python3": "classic",
    "python3-debian": "classic",
    "python3-http": "http",
    "python3-http-debian": "http",
}


@dataclass(frozen=True, slots=True)
class Template:
    """A template folder that can be built here."""

    name: str
    folder: Path
    style: str  # "http": handle(event, context); "classic": handle(req); "process": a program that speaks HTTP
    handler_folder: str = "function"
    fprocess: str = ""  # the command of its program
    upstream_url: str = ""  # how its program takes requests
    welcome: str = ""
    built_in: bool = False

    @property
    def handler(self) -> Path:
        """The folder that `rescoldo new` copies."""
        return self.folder / self.handler_folder


def find_template(lang: str, project: Path) -> Template:
    """The template `lang` names, for a project's folder. Raises BuildFailed when there is none that can be
    built here, saying which there are."""
    if lang.lower() == "dockerfile":
        raise BuildFailed(
            f"lang {lang!r} is a container build, which does not exist here yet; "
            f"use one of {', '.join(_names(project))}"
        )
    for parent in (project / "template", BUILT_IN):
        if lang and Path(lang).name == lang and (parent / lang / "template.yml").is_file():
            return _read(parent / lang)
    names = _names(project)
    raise BuildFailed(f"no template {lang!r}{suggestion(lang, names)}; there are {', '.join(names)}")


def list_templates(project: Path) -> list[Template]:
    """Every template that can be built, by name; those that cannot be read are left out."""
    found = []
    for name in _names(project):
        try:
            found.append(find_template(name, project))
        except (BuildFailed, InvalidInput):
            continue
    return found


def _names(project: Path) -> list[str]:
    folders = [project / "template", BUILT_IN]
    return sorted({file.parent.name for folder in folders for file in folder.glob("*/template.yml")})


def _read(folder: Path) -> Template:
    source = read_source(str(folder / "template.yml"))
    root = parse(source.text, Document(source.name))
    table = root.table() if root else {}  # OpenFaaS's own keys are many: unknown ones are none of our concern
    handler = table["handler_folder"].text() if "handler_folder" in table else ""
    handler = handler or "function"
    if not (folder / handler).resolve().is_relative_to(folder.resolve()):
        raise table["handler_folder"].error("must be a folder inside the template")
    return Template(
        name=folder.name,
        folder=folder,
        style=_style(folder, source.name, table.get("rescoldo")),
        handler_folder=handler,
        fprocess=table["fprocess"].text() if "fprocess" in table else "",
        upstream_url=_upstream_url(table.get("rescoldo")),
        welcome=table["welcome_message"].text().strip() if "welcome_message" in table else "",
        built_in=folder.parent == BUILT_IN,
    )


def _upstream_url(ours: Value | None) -> str:
    table = ours.table() if ours is not None else {}
    return table["upstream_url"].text() if "upstream_url" in table else ""


def _style(folder: Path, file: str, ours: Value | None) -> str:
    if ours is None:
        if style := STYLE_BY_NAME.get(folder.name):
            return style
        raise BuildFailed(
            f"{file}: the template does not say how rescoldo runs it; "
            "add `rescoldo: {kind: python, style: http}` if its handler is handle(event, context)"
        )
    table = ours.only(("kind", "style", "upstream_url"))
    kind = table["kind"].text() if "kind" in table else "python"
    if kind not in ("python", PROCESS):
        raise table["kind"].error(f"{kind!r} is not allowed; use python or {PROCESS}")
    if kind == PROCESS:
        return PROCESS
    style = table["style"].text() if "style" in table else "http"
    if style not in STYLES:
        raise table["style"].error(f"{style!r} is not allowed; use http or classic")
    return style
