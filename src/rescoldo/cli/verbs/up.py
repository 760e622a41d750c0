"""`rescoldo up`: from a handler to a URL in one command."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import click

from rescoldo.cli.credentials import is_loopback
from rescoldo.cli.gateway import Gateway, choose_gateway
from rescoldo.cli.options import (
    DeployFlags,
    Selection,
    Verb,
    data_option,
    deploy_options,
    gateway_options,
    json_option,
    metrics_option,
    no_cache_option,
    selection_options,
)
from rescoldo.cli.output import note
from rescoldo.cli.platform import local_settings, start_background
from rescoldo.cli.project import build_all, load_project
from rescoldo.cli.verbs.deploy import deploy_all
from rescoldo.cli.verbs.local import check_address


@click.command("up", cls=Verb)
@selection_options
@gateway_options
@deploy_options
@data_option
@metrics_option
@no_cache_option
@json_option
@click.option("--skip-push", is_flag=True, help="Accepted as faas-cli's; there is no registry to push to.")
@click.option("--skip-build", is_flag=True, help="Deploy what was built before.")
@click.option("--skip-deploy", is_flag=True, help="Build only.")
@click.option("--no-start", is_flag=True, help="Start no local platform.")
def up_command(
    selection: Selection,
    gateway: str,
    tls_no_verify: bool,
    token: str,
    flags: DeployFlags,
    data: Path | None,
    metrics_address: str,
    no_cache: bool,
    as_json: bool,
    skip_push: bool,
    skip_build: bool,
    skip_deploy: bool,
    no_start: bool,
) -> None:
    """Build, upload and deploy; start a local platform if none runs."""
    project = load_project(selection)
    url = choose_gateway(gateway, project.gateway)
    metrics = check_address(metrics_address, "--metrics-address")
    if not skip_build:
        build_all(project, fresh=no_cache)
    if skip_deploy:
        return
    with Gateway(url, token=token, tls_no_verify=tls_no_verify, data=data) as opened:
        if not no_start:
            ensure_platform(opened, data, metrics)
        deploy_all(opened, project, flags, as_json=as_json)


def ensure_platform(gateway: Gateway, data: Path | None, metrics: str) -> None:
    """Start a local platform where `gateway` is one of this machine and none answers."""
    url = gateway.url
    if urlsplit(url).scheme == "http" and is_loopback(url) and not gateway.answers():
        note(f"starting a local platform at {url}")
        start_background(local_settings(data, gateway=_address(url), metrics=metrics))


def _address(url: str) -> str:
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    return f"{f'[{host}]' if ':' in str(host) else host}:{parts.port or 80}"
