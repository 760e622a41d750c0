"""`rescoldo kubernetes manifests` and `chart`: what an installation is made of, for other tools to apply."""

from __future__ import annotations

from pathlib import Path

import click

from rescoldo.cli.installing import InstallFlags, install_options
from rescoldo.cli.options import Verb, json_option
from rescoldo.cli.output import say, say_json


@click.command("manifests", cls=Verb)
@install_options
@json_option
def manifests_command(flags: InstallFlags, as_json: bool) -> None:
    """Print the Kubernetes objects of an installation.

    \b
    rescoldo kubernetes manifests --image IMAGE | kubectl apply --server-side -f -
    """
    from rescoldo.install.rendering import render
    from rescoldo.install.stages import stages
    from rescoldo.stack.document import dump

    values = flags.values()
    objects = [obj for stage in stages() for obj in render(stage.objects, values)]
    if as_json:
        say_json({"apiVersion": "v1", "kind": "List", "items": objects})
    else:
        click.echo("---\n".join(map(dump, objects)), nl=False)


@click.command("chart", cls=Verb)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@install_options
@json_option
def chart_command(folder: Path, flags: InstallFlags, as_json: bool) -> None:
    """Write a Helm chart.

    The flags become the defaults of its values.yaml; Helm says the system namespace.

    \b
    rescoldo kubernetes chart FOLDER --image IMAGE
    helm install rescoldo FOLDER --namespace rescoldo --create-namespace
    """
    from rescoldo.install.chart import write_chart

    files = write_chart(folder, flags.values())
    if as_json:
        say_json({"folder": str(folder), "files": list(map(str, files))})
    else:
        say(f"Wrote a chart into {folder}.")
