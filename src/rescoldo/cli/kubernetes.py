"""The group `rescoldo kubernetes`. As with all verbs, a command's module is imported when the command runs."""

from __future__ import annotations

from collections.abc import Callable

import click


def _install() -> dict[str, click.Command]:
    from rescoldo.cli.verbs.kubernetes_install import install_command

    return {"install": install_command}


def _remove() -> dict[str, click.Command]:
    from rescoldo.cli.verbs.kubernetes_remove import uninstall_command

    return {"uninstall": uninstall_command}


def _status() -> dict[str, click.Command]:
    from rescoldo.cli.verbs.kubernetes_status import forward_command, status_command

    return {"status": status_command, "forward": forward_command}


def _render() -> dict[str, click.Command]:
    from rescoldo.cli.verbs.kubernetes_render import chart_command, manifests_command

    return {"manifests": manifests_command, "chart": chart_command}


def _image() -> dict[str, click.Command]:
    from rescoldo.cli.verbs.kubernetes_image import image_command

    return {"image": image_command}


def _control() -> dict[str, click.Command]:
    from rescoldo.cli.verbs.kubernetes_control import control_command

    return {"control": control_command}


def _build() -> dict[str, click.Command]:
    from rescoldo.cli.verbs.kubernetes_build import build_command

    return {"build": build_command}


def _gateway() -> dict[str, click.Command]:
    from rescoldo.cli.verbs.kubernetes_parts import (
        gateway_agent_command,
        gateway_command,
        gateway_drain_command,
    )

    return {
        "gateway": gateway_command,
        "gateway-agent": gateway_agent_command,
        "gateway-drain": gateway_drain_command,
    }


# command → (loader of its module, its line in --help; empty for what the manifests alone run)
COMMANDS: dict[str, tuple[Callable[[], dict[str, click.Command]], str]] = {
    "install": (_install, "Install rescoldo in a cluster, or upgrade it."),
    "uninstall": (_remove, "Remove rescoldo from a cluster."),
    "status": (_status, "Show the parts in a cluster and their problems."),
    "forward": (_status, "Reach the gateway at a port of this machine, until Ctrl-C."),
    "manifests": (_render, "Print the Kubernetes objects of an installation."),
    "chart": (_render, "Write a Helm chart."),
    "image": (_image, "Make the container image, and push or load it."),
    "control": (_control, ""),
    "build": (_build, ""),
    "gateway": (_gateway, ""),
    "gateway-agent": (_gateway, ""),
    "gateway-drain": (_gateway, ""),
}


class Commands(click.Group):
    """Lists commands and imports the module of one on its first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, _ in _listed()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        load, _ = COMMANDS[cmd_name]
        return load()[cmd_name]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Format the list from COMMANDS, so that help imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl(_listed())


def _listed() -> list[tuple[str, str]]:
    """Return the commands for users, with their lines."""
    return [(name, text) for name, (_, text) in COMMANDS.items() if text]


@click.group("kubernetes", cls=Commands)
def kubernetes_command() -> None:
    """The platform in a Kubernetes cluster: install, upgrade, remove.

    \b
    rescoldo kubernetes image --push registry.example.com/rescoldo:1
    rescoldo kubernetes install --image registry.example.com/rescoldo:1
    """
