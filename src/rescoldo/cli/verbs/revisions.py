"""`rescoldo revisions`, `rollback` and `traffic`: a function's history and its shares of traffic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from rescoldo.cli.changes import Change, changed, changes_of
from rescoldo.cli.completing import functions
from rescoldo.cli.flags import GatewayFlags
from rescoldo.cli.gateway import Gateway
from rescoldo.cli.options import Verb, Whole, connection_options, json_option, namespace_option
from rescoldo.cli.output import brief, say, say_columns, say_json
from rescoldo.cli.target import not_deployed, open_gateway, reference
from rescoldo.model.errors import InvalidInput, NotFound
from rescoldo.model.function import spec_from_json
from rescoldo.model.revision import check_traffic

_DIGEST = 12  # characters of a digest that are shown
_REASON = 200  # characters of a reason that are shown


@click.command("revisions", cls=Verb)
@click.argument("name", shell_complete=functions)
@connection_options
@namespace_option
@json_option
def revisions_command(name: str, connection: GatewayFlags, namespace: str, as_json: bool) -> None:
    """List a function's revisions and their shares of traffic.

    Newest first. Differs: what changed since the revision below. Serving: has a share of the traffic. Kept: available
    for rollback. Failed: did not start; the reason says why.
    """
    name, place = reference(name, namespace)
    with open_gateway(connection) as opened:
        found = _ask(opened, "GET", name, place, "revisions").json()
    changes = [_changes(item, before) for item, before in zip(found, [*found[1:], None], strict=True)]
    if as_json:
        say_json([_to_json(item, made) for item, made in zip(found, changes, strict=True)])
        return
    head = ("Revision", "Created", "Image", "Digest", "State", "Traffic", "Instances", "Differs", "Reason")
    say_columns(head, [_row(item, made) for item, made in zip(found, changes, strict=True)])


def _changes(item: Mapping[str, Any], before: Mapping[str, Any] | None) -> list[Change]:
    """Return what a revision changed; nothing if the previous one is gone or the gateway does not report
    deployments."""
    if before is None or "deployment" not in item or "deployment" not in before:
        return []
    code = changed("code", before["digest"][:_DIGEST], item["digest"][:_DIGEST])
    return [*code, *changes_of(spec_from_json(item["deployment"]), before["deployment"])]


def _to_json(item: Mapping[str, Any], changes: Sequence[Change]) -> dict[str, Any]:
    known = {"changes": [asdict(change) for change in changes]} if "deployment" in item else {}
    return {**item, **known}


def _row(item: Mapping[str, Any], changes: Sequence[Change]) -> tuple[Any, ...]:
    state = item["state"] + (", current" if item["current"] else "")
    # the last line of a traceback names the exception, the lines before it the place
    reason = str(item["reason"]).strip().rpartition("\n")[2]
    reason = reason if len(reason) <= _REASON else f"{reason[: _REASON - 1]}…"  # --json has the full reason
    return (
        item["revision"], item["createdAt"], item["image"], item["digest"][:_DIGEST], state, f"{item['traffic']}%",
        item["replicas"], brief(", ".join(change.field for change in changes)), reason,
    )


@click.command("rollback", cls=Verb)
@click.argument("name", shell_complete=functions)
@click.argument("number", type=Whole(1), required=False, default=None, metavar="[REVISION]")
@click.option("--revision", type=Whole(1), default=None, help="The same as the argument REVISION.")
@connection_options
@namespace_option
@json_option
def rollback_command(
    name: str, number: int | None, revision: int | None, connection: GatewayFlags, namespace: str, as_json: bool
) -> None:
    """Deploy a past revision again.

    Without REVISION, the last revision that served before the current one. Its deployment and code become a new
    revision, which is started and checked before it takes all calls.
    """
    if number is not None and revision is not None and number != revision:
        raise click.UsageError(f"REVISION is {number} and --revision is {revision}; give one of them")
    revision = number if revision is None else revision
    name, place = reference(name, namespace)
    body = {"revision": revision} if revision is not None else {}
    with open_gateway(connection) as opened:
        current = _ask(opened, "POST", name, place, "rollback", body).json()["revision"]
    if as_json:
        say_json({"name": name, "namespace": place, "revision": current})
    else:
        say(f"{name} serves revision {current}.")


@click.command("traffic", cls=Verb)
@click.argument("name", shell_complete=functions)
@click.argument("shares", nargs=-1, required=True, metavar="REVISION=PERCENT...")
@connection_options
@namespace_option
@json_option
def traffic_command(
    name: str, shares: tuple[str, ...], connection: GatewayFlags, namespace: str, as_json: bool
) -> None:
    """Split a function's traffic between revisions.

    The percentages add up to 100, for example 3=90 4=10. The next deployment ends the split.
    """
    name, place = reference(name, namespace)
    wanted = check_traffic(_shares(shares))
    body = {"traffic": {str(revision): percent for revision, percent in wanted.items()}}
    with open_gateway(connection) as opened:
        _ask(opened, "PUT", name, place, "traffic", body)
    if as_json:
        say_json({"name": name, "namespace": place, **body})
    else:
        say(f"{name}: " + ", ".join(f"{percent} % to revision {revision}" for revision, percent in wanted.items()))


def _shares(texts: tuple[str, ...]) -> dict[int, int]:
    found: dict[int, int] = {}
    for text in texts:
        revision, _, percent = text.partition("=")
        if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in (revision, percent)):
            raise InvalidInput(f"{text[:80]!r} is not REVISION=PERCENT; write for example 3=90 4=10")
        if int(revision) in found:
            raise InvalidInput(f"revision {revision} is named twice; give each its share once")
        found[int(revision)] = int(percent)
    return found


def _ask(gateway: Gateway, method: str, name: str, namespace: str, what: str, body: object = None) -> Any:
    path = f"/system/function/{name}/{what}"
    try:
        return gateway.system(method, path, params={"namespace": namespace}, json=body)
    except NotFound as error:
        raise not_deployed(name, namespace) from error
