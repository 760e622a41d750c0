"""`rescoldo template`"""

from __future__ import annotations

import os
from pathlib import Path

import click

from rescoldo.cli.options import Verb, json_option, yaml_option
from rescoldo.cli.output import note, say, say_columns, say_json
from rescoldo.cli.project import load_stack
from rescoldo.model.errors import InvalidInput
from rescoldo.stack.pull import DEFAULT_REPOSITORY, Pulled, pull_templates, shown
from rescoldo.stack.templates import aliases_of, list_templates

_overwrite = click.option("--overwrite", is_flag=True, help="Replace existing templates.")
_store_url = click.option(
    "-u",
    "--url",
    envvar="OPENFAAS_TEMPLATE_STORE_URL",
    default="https://raw.githubusercontent.com/openfaas/store/master/templates.json",
    help="URL or path of the store. [$OPENFAAS_TEMPLATE_STORE_URL or the public one]",
)


@click.group("template")
def template_command() -> None:
    """Templates that functions start from."""


@template_command.command("list", cls=Verb)
@json_option
def list_command(as_json: bool) -> None:
    """List the templates that come with rescoldo and those in ./template."""
    found = list_templates(Path())
    origins = ["built in" if template.built_in else str(template.folder) for template in found]
    if as_json:
        say_json(
            [
                {"name": t.name, "style": t.style, "built_in": t.built_in, "aliases": list(aliases_of(t.name))}
                for t in found
            ]
        )
        return
    rows = [(t.name, t.style, origin, ", ".join(aliases_of(t.name))) for t, origin in zip(found, origins, strict=True)]
    say_columns(("TEMPLATE", "STYLE", "FROM", "ALSO CALLED"), rows)


@template_command.command("pull", cls=Verb)
@click.argument("repository", required=False, default="")
@yaml_option
@_overwrite
@json_option
def pull_command(repository: str, yaml_file: str, overwrite: bool, as_json: bool) -> None:
    """Fetch the templates of a git repository into ./template.

    REPOSITORY is a path or URL, with #BRANCH if needed; by default $OPENFAAS_TEMPLATE_URL or OpenFaaS's own. `stack`
    fetches the templates that stack.yaml names under `configuration`.
    """
    if repository == "stack":
        pulled = [_pull(item.source, overwrite, item.name) for item in load_stack(yaml_file).templates]
        if not pulled:
            raise InvalidInput("the stack file names no templates under configuration.templates")
    else:
        chosen = repository or os.environ.get("OPENFAAS_TEMPLATE_URL", "") or DEFAULT_REPOSITORY
        pulled = [_pull(chosen, overwrite, "")]
    _say(pulled, as_json)


@template_command.group("store")
def store_group() -> None:
    """Browse and fetch templates of a store."""


@store_group.command("list", cls=Verb)
@_store_url
@click.option("-p", "--platform", default="", help="Only templates for this kind of machine, such as x86_64.")
@click.option("--recommended", is_flag=True, help="Only recommended templates.")
@click.option("--official", is_flag=True, help="Only official templates.")
@json_option
def store_list_command(url: str, platform: str, recommended: bool, official: bool, as_json: bool) -> None:
    """List the templates of a store."""
    from rescoldo.stack.store import read_templates  # takes 0.1 s, and only stores need it

    found = [
        template
        for template in read_templates(url)
        if (not platform or template.platform == platform)
        and (template.recommended or not recommended)
        and (template.official or not official)
    ]
    if as_json:
        say_json([template.model_dump() for template in found])
        return
    rows = [(t.template, t.language, t.source, t.description) for t in found]
    say_columns(("NAME", "LANGUAGE", "SOURCE", "DESCRIPTION"), rows)


@store_group.command("pull", cls=Verb)
@click.argument("name")
@_store_url
@_overwrite
@json_option
def store_pull_command(name: str, url: str, overwrite: bool, as_json: bool) -> None:
    """Fetch a template of a store into ./template, with all templates of its repository."""
    from rescoldo.stack.store import find, read_templates  # takes 0.1 s, and only stores need it

    found = find({template.template: template for template in read_templates(url)}, name, url)
    _say([_pull(found.repo, overwrite, "")], as_json)


def _pull(repository: str, overwrite: bool, only: str) -> Pulled:
    note(f"pulling {shown(repository)}")
    return pull_templates(repository, Path(), overwrite=overwrite, only=only)


def _say(pulled: list[Pulled], as_json: bool) -> None:
    written = [name for one in pulled for name in one.written]
    kept = [name for one in pulled for name in one.kept]
    if as_json:
        say_json({"written": written, "kept": kept})
        return
    if written:
        say(f"Wrote to ./template: {', '.join(written)}.")
    if kept:
        note(f"Kept in ./template: {', '.join(kept)}; --overwrite replaces them.")
    usable = {template.name for template in list_templates(Path())}
    if others := [name for name in (*written, *kept) if name not in usable]:
        note(f"Skipped, because rescoldo cannot run them: {', '.join(others)}.")
