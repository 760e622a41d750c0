"""Completes arguments in the shell with names from a gateway or a project. Offers nothing if the names are not
available at once: a completion prints no errors and does not keep the user waiting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

PATIENCE = 2.0  # seconds to wait for the gateway's response
MOST = 1000  # names offered

Completion = Callable[[click.Context, click.Parameter, str], list[str]]


def _offered(names: Callable[[click.Context], list[str]]) -> Completion:
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        try:
            found = names(ctx)
        except Exception:  # the shell would print a traceback into the line that the user is typing
            return []
        return [name for name in sorted(set(found)) if name.startswith(incomplete)][:MOST]

    return complete


def _asked(ctx: click.Context, path: str, *, spaced: bool = True) -> list[str]:
    """Return the names in one of the gateway's lists."""
    from rescoldo.cli.gateway import Gateway, choose_gateway  # only completions that ask a gateway need these imports
    from rescoldo.cli.project import optional_gateway

    flag = ctx.params.get("gateway") or ""
    url = choose_gateway(flag, optional_gateway(ctx.params.get("yaml_file") or "", flag))
    token, unchecked = ctx.params.get("token") or "", bool(ctx.params.get("tls_no_verify"))
    params = {"namespace": ctx.params.get("namespace") or ""} if spaced else {}
    with Gateway(url, token=token, tls_no_verify=unchecked, patience=PATIENCE) as gateway:
        found: list[Any] = gateway.system("GET", path, params=params).json()
    return [str(item["name"]) if isinstance(item, dict) else str(item) for item in found]


def _templates() -> list[str]:
    from rescoldo.stack.templates import list_templates

    return [template.name for template in list_templates(Path())]


def _in_the_stack_file(ctx: click.Context) -> list[str]:
    from rescoldo.cli.project import load_stack

    return [function.name for function in load_stack(ctx.params.get("yaml_file") or "").functions]


in_the_stack_file = _offered(_in_the_stack_file)
functions = _offered(lambda ctx: _asked(ctx, "/system/functions"))
secrets = _offered(lambda ctx: _asked(ctx, "/system/secrets"))
namespaces = _offered(lambda ctx: _asked(ctx, "/system/namespaces", spaced=False))
templates = _offered(lambda ctx: _templates())
