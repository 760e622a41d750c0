"""`rescoldo kubernetes build`: the program of a build's pod, which control makes."""

from __future__ import annotations

from pathlib import Path

import click

from rescoldo.cli.options import Verb


@click.command("build", cls=Verb)
@click.option("--control", required=True, metavar="URL", help="The link of control.")
@click.option(
    "--identity",
    type=click.Path(file_okay=False, path_type=Path),
    default="/etc/rescoldo/identity",
    show_default=True,
    help="Folder with tls.crt, tls.key and ca.crt: they say which build this is.",
)
@click.option(
    "--work", type=click.Path(file_okay=False, path_type=Path), default="/work", show_default=True, help="Empty folder."
)
def build_command(control: str, identity: Path, work: Path) -> None:
    """Build one archive of faas-cli for control: its pods do."""
    from rescoldo.link.builds import run_build

    run_build(control, identity, work)
