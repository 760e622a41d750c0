"""Finds the template that `lang:` names. A project's ./template/LANG wins over the one shipped with rescoldo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rescoldo.kinds.registry import DEFAULT, KINDS, styles_of_templates
from rescoldo.model.errors import BuildFailed, InvalidInput
from rescoldo.stack.document import Document, Value, parse, suggestion
from rescoldo.stack.source import read_source

BUILT_IN = Path(__file__).parent.parent / "templates"
# OpenFaaS's template names → our equivalents: the images differ, the handler's contract is the same.
# python3-flask's handle(req) gets the body as text, like python3's.
ALIASES = {
    "python3-debian": "python3",
    "python3-flask": "python3",
    "python3-flask-debian": "python3",
    "python3-http-debian": "python3-http",
}
_OTHERS = "a program of another language can be `lang: process`, with `fprocess` and `upstream_url`"


@dataclass(frozen=True, slots=True)
class Template:
    """A template that rescoldo can build."""

    name: str
    folder: Path
    style: str  # one of its kind's (Kind.styles)
    handler_folder: str = "function"
    fprocess: str = ""  # the command of a function made from it
    upstream_url: str = ""  # where that command takes requests
    welcome: str = ""
    built_in: bool = False

    @property
    def handler(self) -> Path:
        """The folder that `rescoldo new` copies into a project."""
        return self.folder / self.handler_folder


@dataclass(frozen=True, slots=True)
class ForeignTemplate:
    """A template that this machine knows only by its template.yml."""

    language: str  # empty: template.yml names none
    handler_folder: str
    style: str  # as Template.style; empty: the template was not made for rescoldo


def find_template(lang: str, project: Path) -> Template:
    """Return the template that `lang` names, for a project's folder.

    Raises BuildFailed, naming the available templates, if there is none or rescoldo cannot build it, and
    InvalidInput if its template.yml is not valid.
    """
    names = [template.name for template in list_templates(project)]
    if lang.lower() == "dockerfile":
        raise BuildFailed(
            f"lang {lang!r} is a container build, which rescoldo does not support yet; use {', '.join(names)}"
        )
    folder = _folder(lang, project)
    if folder is None:
        hint = suggestion(lang, [*names, *ALIASES])
        others = "" if hint else f"; {_OTHERS}"
        raise BuildFailed(f"no template {lang!r}{hint}; available: {', '.join(names)}{others}")
    return _read(folder, lang)


def has_template(lang: str, project: Path) -> bool:
    """Return whether a template of that name exists here, even one that rescoldo cannot build."""
    return _folder(lang, project) is not None


def list_templates(project: Path) -> list[Template]:
    """Return the templates that rescoldo can build, sorted by name."""
    folders = {file.parent.name: file.parent for file in (*_files(BUILT_IN), *_files(project / "template"))}
    found = []
    for name in sorted(folders):
        try:
            found.append(_read(folders[name], name))
        except (BuildFailed, InvalidInput):
            continue
    return found


def aliases_of(name: str) -> tuple[str, ...]:
    """Return the other names of the template `name`."""
    return tuple(alias for alias, own in ALIASES.items() if own == name)


def _folder(lang: str, project: Path) -> Path | None:
    """Return the folder of `lang`: its own name before its alias, and the project's template before ours."""
    if not lang or Path(lang).name != lang:
        return None
    names = (lang, *((ALIASES[lang],) if lang in ALIASES else ()))
    places = (parent / name for name in names for parent in (project / "template", BUILT_IN))
    return next((place for place in places if (place / "template.yml").is_file()), None)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/template.yml"))


def _read(folder: Path, lang: str) -> Template:
    source = read_source(str(folder / "template.yml"))
    root = parse(source.text, Document(source.name))
    table = root.table() if root else {}  # OpenFaaS has many keys of its own: ignore unknown ones
    return Template(
        name=lang,
        folder=folder,
        style=_style(folder, source.name, table),
        handler_folder=_handler_folder(folder, table),
        fprocess=table["fprocess"].text() if "fprocess" in table else "",
        upstream_url=_upstream_url(table.get("rescoldo")),
        welcome=table["welcome_message"].text().strip() if "welcome_message" in table else "",
        built_in=folder.parent == BUILT_IN,
    )


def read_foreign(folder: Path) -> ForeignTemplate:
    """Read template.yml in `folder`. Raises InvalidInput."""
    source = read_source(str(folder / "template.yml"))
    root = parse(source.text, Document(source.name))
    table = root.table() if root else {}
    return ForeignTemplate(
        language=table["language"].text() if "language" in table else "",
        handler_folder=_handler_folder(folder, table),
        style=_style(folder, source.name, table) if "rescoldo" in table else "",
    )


def _handler_folder(folder: Path, table: Mapping[str, Value]) -> str:
    handler = table["handler_folder"].text() if "handler_folder" in table else ""
    handler = handler or "function"
    if not (folder / handler).resolve().is_relative_to(folder.resolve()):
        raise table["handler_folder"].error("must be a folder inside the template")
    return handler


def _upstream_url(ours: Value | None) -> str:
    table = ours.table() if ours is not None else {}
    return table["upstream_url"].text() if "upstream_url" in table else ""


def _style(folder: Path, file: str, keys: Mapping[str, Value]) -> str:
    ours = keys.get("rescoldo")
    if ours is None:
        # Templates that faas-cli pulls do not have our key; we know the contract of some of them.
        if style := styles_of_templates().get(ALIASES.get(folder.name, folder.name)):
            return style
        raise BuildFailed(f"{file}: {_not_built(folder, keys)}")
    table = ours.only(("kind", "style", "upstream_url"))
    name = table["kind"].text() if "kind" in table else DEFAULT.name
    kind = KINDS.get(name)
    if kind is None:
        raise table["kind"].error(f"{name!r} is not allowed; use {' or '.join(KINDS)}")
    if len(kind.styles) == 1:
        return kind.styles[0]
    style = table["style"].text() if "style" in table else kind.styles[0]
    if style not in kind.styles:
        raise table["style"].error(f"{style!r} is not allowed; use {' or '.join(kind.styles)}")
    return style


def _not_built(folder: Path, keys: Mapping[str, Value]) -> str:
    """Return why rescoldo cannot build a template without a `rescoldo` key, and the remedy."""
    language = keys["language"].text() if "language" in keys else ""
    if "python" in (language or folder.name).lower():
        return (
            "the template does not say how rescoldo runs it; "
            "add `rescoldo: {kind: python, style: http}` if its handler is handle(event, context)"
        )
    what = f"is for {language}" if language else "names no language"
    container = ", and its Dockerfile needs a container builder" if (folder / "Dockerfile").is_file() else ""
    kinds = f"rescoldo builds the kinds {' and '.join(KINDS)}"
    return f"the template {what}{container}: {kinds}; {_OTHERS}"
