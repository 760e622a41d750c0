"""Installs this platform as a systemd service: `rescoldo serve --install-service`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from rescoldo.cli.options import folded
from rescoldo.cli.output import say, say_json
from rescoldo.model.settings import Settings

_NOT_PASSED_ON = {"install_service", "uninstall_service", "user", "yes", "as_json", "data"}  # not repeated in the unit
_ENVIRONMENT = ("RESCOLDO_HAPROXY",)  # a service does not inherit the variables of the installing shell


@dataclass(frozen=True, slots=True)
class ServiceFlags:
    """Flags that write or remove a systemd unit instead of running a platform."""

    install_service: bool
    uninstall_service: bool
    user: bool
    yes: bool


service_options = folded(
    ServiceFlags,
    "service",
    click.option(
        "--install-service",
        is_flag=True,
        help="Write a systemd unit that runs this platform with these flags at boot. Does not start it.",
    ),
    click.option("--uninstall-service", is_flag=True, help="Remove the unit. A running platform keeps running."),
    click.option("--user", is_flag=True, help="With either: use your user's systemd instead of the system's."),
    click.option("--yes", is_flag=True, help="With either: even if rescoldo did not write the unit for this platform."),
)


def check_service(flags: ServiceFlags, *, detach: bool) -> bool:
    """Return whether the flags change a service. Raises UsageError for flags that exclude each other."""
    if flags.install_service and flags.uninstall_service:
        raise click.UsageError("--install-service and --uninstall-service exclude each other")
    changes = flags.install_service or flags.uninstall_service
    if changes and detach:
        raise click.UsageError(
            "--detach excludes --install-service and --uninstall-service: systemd starts the platform"
        )
    if (flags.user or flags.yes) and not changes:
        raise click.UsageError("--user and --yes need --install-service or --uninstall-service")
    return changes


def change_service(flags: ServiceFlags, settings: Settings, *, as_json: bool) -> int:
    """Install or uninstall the service for the platform of `settings`; return the exit status.

    Raises the errors of supervisor.service: InvalidInput, Conflict, NotFound.
    """
    from rescoldo.supervisor.service import Service, install, uninstall  # imports edge and node: slow

    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    service = Service(
        _command(settings), environment, settings.data, of_user=flags.user, longest_drain=settings.longest_drain
    )
    if flags.uninstall_service:
        uninstall(service, overwrite=flags.yes)
        done, commands = "removed", service.stopping
    else:
        replaced = install(service, overwrite=flags.yes)
        done, commands = ("replaced", service.restarting) if replaced else ("written", service.starting)
    if as_json:
        say_json({"unit": str(service.path), "done": done, "run": list(commands)})
        return 0
    say(f"{service.path} is {done}.\n\nNext:")
    for command in commands:
        say(f"  {command}")
    if flags.user and flags.install_service:
        say("\nIt runs while you are logged in. To run it from boot on: loginctl enable-linger")
    return 0


def _command(settings: Settings) -> list[str]:
    """Return the command line of `serve` for a start in another folder and without this environment."""
    # -P: import nothing from the folder in which the command starts
    return [sys.executable, "-P", "-m", "rescoldo.cli", "serve", "--data", settings.data, *_flags()]


def _flags() -> Iterator[str]:
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in _NOT_PASSED_ON or context.get_parameter_source(name) != click.core.ParameterSource.COMMANDLINE:
            continue
        flag, value = max(parameter.opts, key=len), context.params[name]
        for one in value if isinstance(value, tuple) else (value,):
            yield flag
            if not isinstance(one, bool):
                yield str(one.absolute() if isinstance(one, Path) else one)
