"""`rescoldo login` and `rescoldo logout`"""

from __future__ import annotations

import sys

import click

from rescoldo.cli.credentials import basic, config_file, forget, save
from rescoldo.cli.gateway import Gateway, choose_gateway
from rescoldo.cli.options import Verb, json_option
from rescoldo.cli.output import note, say, say_json
from rescoldo.model.errors import RescoldoError
from rescoldo.model.password import read_password

_gateway = click.option("-g", "--gateway", default="", help="Gateway URL. [$OPENFAAS_URL or the local one]")


@click.command("login", cls=Verb)
@_gateway
@click.option("--tls-no-verify", is_flag=True, help="Do not check the gateway's certificate.")
@click.option("-u", "--username", default="admin", show_default=True)
@click.option("-p", "--password", default="", help="Visible to other users of this machine: prefer --password-stdin.")
@click.option("-s", "--password-stdin", is_flag=True, help="Read the password from standard input.")
@json_option
def login_command(
    gateway: str, tls_no_verify: bool, username: str, password: str, password_stdin: bool, as_json: bool
) -> None:
    """Save the password of a gateway.

    Stored in ~/.openfaas/config.yml, which faas-cli uses, too.
    """
    if password and password_stdin:
        raise click.UsageError("--password and --password-stdin exclude each other; give one of them")
    if password_stdin:
        password = sys.stdin.read()
    elif not password and sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, err=True)
    password = read_password(password)
    if not password:
        raise click.UsageError("the password is missing; give it with --password-stdin")
    url = choose_gateway(gateway)
    with Gateway(url, tls_no_verify=tls_no_verify) as opened:
        header = f"Basic {basic(username, password)}"
        answer = opened.system("GET", "/system/functions", header=header, accept=(200, 401))
    if answer.status_code == 401:
        raise RescoldoError(f"{url}: wrong username or password")
    save(url, username, password)
    if as_json:
        say_json({"gateway": url, "username": username, "file": str(config_file())})
        return
    say(f"Saved the password of {username} for {url} in {config_file()}.")


@click.command("logout", cls=Verb)
@_gateway
@json_option
def logout_command(gateway: str, as_json: bool) -> None:
    """Forget the password of a gateway."""
    url = choose_gateway(gateway)
    removed = forget(url)
    if as_json:
        say_json({"gateway": url, "removed": removed})
    elif removed:
        say(f"Removed the password for {url}.")
    else:
        note(f"No password is saved for {url}.")
