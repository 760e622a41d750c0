"""`rescoldo version`, `completion` and `help`"""

from __future__ import annotations

import platform

import click
from click.shell_completion import get_completion_class

from rescoldo import __version__
from rescoldo.cli.options import Verb, json_option
from rescoldo.cli.output import say, say_json


@click.command("version", cls=Verb)
@json_option
@click.option("--short-version", is_flag=True, help="Print the number alone.")
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
@json_option
@click.pass_context
def completion_command(ctx: click.Context, shell: str, as_json: bool) -> None:
    """Print a shell's completion script.

    \b
    bash: source <(rescoldo completion bash)
    zsh:  source <(rescoldo completion zsh)
    fish: rescoldo completion fish | source
    """
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(ctx.find_root().command, {}, "rescoldo", "_RESCOLDO_COMPLETE").source()
    if as_json:
        say_json({"shell": shell, "script": script})
    else:
        say(script)


@click.command("help", cls=Verb)
@click.argument("verb", nargs=-1)
@json_option
@click.pass_context
def help_command(ctx: click.Context, verb: tuple[str, ...], as_json: bool) -> None:
    """Show help for rescoldo or one of its verbs.

    For a verb of several words: rescoldo help secret create.
    """
    of = click.Context(ctx.find_root().command, info_name="rescoldo")
    for word in verb:
        command = of.command.get_command(of, word) if isinstance(of.command, click.Group) else None
        if command is None:
            ctx.fail(f"no command {' '.join(verb)!r}. See `rescoldo help`.")
        of = click.Context(command, info_name=word, parent=of)
    if as_json:
        say_json({"command": of.command_path, "help": of.get_help()})
    else:
        say(of.get_help())
