"""`rescoldo new`"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import click

from rescoldo.cli.completing import templates
from rescoldo.cli.gateway import DEFAULT_GATEWAY
from rescoldo.cli.options import Verb, json_option
from rescoldo.cli.output import say, say_json
from rescoldo.cli.project import fetch_template
from rescoldo.kinds.registry import kind_of_style
from rescoldo.model.errors import Conflict, RescoldoError
from rescoldo.model.names import check_name
from rescoldo.stack.file import read_stack
from rescoldo.stack.scaffold import StackEntry, append_entry, new_stack
from rescoldo.stack.source import DEFAULT_NAMES, Source, default_file, read_source
from rescoldo.stack.templates import Template, find_template, list_templates


@click.command("new", cls=Verb)
@click.argument("name", required=False, default="")
@click.option("--lang", default="", help="Template; see --list.", shell_complete=templates)
@click.option("--append", default="", metavar="FILE", help="Stack file to extend. [stack.yaml if it exists]")
@click.option("--prefix", default="", help="Put PREFIX/ before the image's name. [$OPENFAAS_PREFIX]")
@click.option("--handler", default="", help="Folder to create. [NAME]")
@click.option("-g", "--gateway", default="", help="Gateway to name in a new stack file.")
@click.option("--list", "list_them", is_flag=True, help="List the templates.")
@json_option
def new_command(
    name: str, lang: str, append: str, prefix: str, handler: str, gateway: str, list_them: bool, as_json: bool
) -> None:
    """Create a function: a handler folder and an entry in stack.yaml."""
    if list_them:
        names = [found.name for found in list_templates(Path())]
        if as_json:
            say_json(names)
        for found in () if as_json else names:
            say(found)
        return
    if not name or not lang:
        raise click.UsageError("write `rescoldo new NAME --lang LANG`; `rescoldo new --list` shows templates")
    check_name(name)
    existing = Path(append) if append else default_file(Path())
    if existing is not None:
        stack_file = read_stack(str(existing))
        fetch_template(lang, stack_file.templates, stack_file.folder)
    template = find_template(lang, Path())
    folder = Path(handler or name)
    if folder.exists():
        raise Conflict(f"{folder} exists already; choose another name, or remove it")
    prefix = (prefix or os.environ.get("OPENFAAS_PREFIX", "")).rstrip("/")
    image = f"{prefix}/{name}:latest" if prefix else f"{name}:latest"
    handler = folder.as_posix() if folder.is_absolute() else f"./{folder.as_posix()}"
    entry = StackEntry(name, lang, handler, image)
    kind = kind_of_style(template.style)
    if kind.takes_command:
        entry = replace(entry, fprocess=template.fprocess, upstream_url=template.upstream_url)
    stack, text = _stack(entry, existing, gateway)
    _write(template, folder, stack, text)
    if as_json:
        say_json({"name": name, "lang": lang, "handler": handler, "stack": str(stack)})
        return
    say(f"Wrote {folder}/ and {stack}.")
    if template.welcome:
        say(f"\n{template.welcome}")
    flag = "" if stack.name == DEFAULT_NAMES[0] else f" -f {stack}"
    say(f"\nNext:\n  {kind.to_edit(folder)}\n  rescoldo up{flag}\n  echo you | rescoldo invoke {name}")


def _stack(entry: StackEntry, existing: Path | None, gateway: str) -> tuple[Path, str]:
    """Return the stack file to write, and its new text."""
    if existing is None:
        return Path(DEFAULT_NAMES[0]), new_stack(entry, gateway or DEFAULT_GATEWAY)
    source: Source = read_source(str(existing))
    return existing, append_entry(source, entry, os.environ)


def _write(template: Template, folder: Path, stack: Path, text: str) -> None:
    partial = stack.with_name(f".{stack.name}.{os.getpid()}")
    try:
        shutil.copytree(template.handler, folder, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        partial.write_text(text)
        if stack.exists():
            partial.chmod(stack.stat().st_mode & 0o777)
        partial.replace(stack)
    except OSError as error:
        raise RescoldoError(f"{error.filename}: cannot be written: {error.strerror}") from error
