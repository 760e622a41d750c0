"""`rescoldo version` and `rescoldo completion`"""

from __future__ import annotations

import platform

import click
from click.shell_completion import get_completion_class

from rescoldo import __version__
from rescoldo.cli.main import root
from rescoldo.cli.options import Verb, json_option
from rescoldo.cli.output import say, say_json


@click.command("version", cls=Verb)
@json_option
@click.option("--short-version", is_flag=True, help="The number alone.")
def version_command(as_json: bool, short_version: bool) -> None:
    """Show the version."""
    if as_json:
        say_json({"version": __version__, "python": platform.python_version(), "arch": platform.machine()})
    elif short_version:
        say(__version__)
    else:
        say(f"rescoldo {__version__} (Python {platform.python_version()}, {platform.machine()})")


@click.command("completion", cls=Verb)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print a shell's completion script.

    \b
    bash: source <(rescoldo completion bash)
    zsh:  source <(rescoldo completion zsh)
    fish: rescoldo completion fish | source
    """
    kind = get_completion_class(shell)
    assert kind is not None
    say(kind(root, {}, "rescoldo", "_RESCOLDO_COMPLETE").source())
