"""`rescoldo template`"""

from __future__ import annotations

from pathlib import Path

import click

from rescoldo.cli.options import Verb, json_option
from rescoldo.cli.output import say_columns, say_json
from rescoldo.stack.templates import list_templates


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
            [{"name": template.name, "style": template.style, "built_in": template.built_in} for template in found]
        )
        return
    rows = [(template.name, template.style, origin) for template, origin in zip(found, origins, strict=True)]
    say_columns(("TEMPLATE", "STYLE", "FROM"), rows)
