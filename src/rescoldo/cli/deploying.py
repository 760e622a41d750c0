"""Deploys what was built here: one function, or all functions of a project in parallel."""

from __future__ import annotations

from rescoldo.cli.deployment import PATIENCE, deploy, function_url, upload
from rescoldo.cli.flags import DeployFlags
from rescoldo.cli.gateway import Gateway
from rescoldo.cli.notes import tell_notes
from rescoldo.cli.output import note
from rescoldo.cli.project import Project, bundle_file, with_flags
from rescoldo.cli.results import (
    DEPLOYED,
    DEPLOYING,
    Key,
    Outcome,
    Results,
    for_each_at_once,
    reference_of,
    shown,
)
from rescoldo.model.errors import InvalidInput, RescoldoError
from rescoldo.model.names import DEFAULT_NAMESPACE
from rescoldo.stack.file import StackFunction


def deploy_all(
    gateway: Gateway,
    project: Project,
    flags: DeployFlags,
    results: Results,
    *,
    parallel: int,
    start: bool = True,
) -> None:
    """Upload the bundle of each function that was built here and deploy the function, `parallel` functions at once.
    Those that the gateway gave no new revision become UNCHANGED.

    Skips functions that have an outcome in `results`. Raises GatewayClosed.
    """
    functions = {reference_of(function, flags.namespace): function for function in project.functions}
    left = [key for key in functions if results.is_open(key)]
    before = _revisions(gateway, left) if is_update(flags) else dict.fromkeys(left)

    def work(function: StackFunction) -> Outcome:
        exists = reference_of(function, flags.namespace) in before
        return deploy_one(gateway, function, flags, exists=exists, start=start)

    for_each_at_once(functions, results, work, parallel)
    known = [key for key in left if before.get(key) is not None]
    after = _revisions(gateway, known)
    for key in left:
        if key in known and before[key] == after.get(key):
            results.leave(key)
        else:
            tell_notes(key[0], results.notes(key))


def _revisions(gateway: Gateway, wanted: list[Key]) -> dict[Key, int | None]:
    """Return the revisions of those of the `wanted` functions that may exist; None: the gateway does not tell.

    One list for a namespace: on a cluster a question about one function is answered by its worker, and takes as long as
    a deployment."""
    found: dict[Key, int | None] = {}
    for space in dict.fromkeys(space for _, space in wanted):
        own = space if space != DEFAULT_NAMESPACE else ""
        accept = (200, 202, 400, 404, 500, 502, 503)
        answer = gateway.system("GET", "/system/functions", params={"namespace": own}, accept=accept)
        try:
            listed = {str(each["name"]): each.get("revision") for each in answer.json()}
        except (ValueError, TypeError, KeyError, AttributeError):
            listed = {name: None for name, its in wanted if its == space}
        found |= {(name, space): listed[name] for name, its in wanted if its == space and name in listed}
    return found


def is_update(flags: DeployFlags) -> bool:
    """Return whether an existing deployment is updated, rather than removed first or left alone."""
    return flags.update is not False and not flags.replace


def deploy_one(
    gateway: Gateway, function: StackFunction, flags: DeployFlags, *, exists: bool = True, start: bool = True
) -> Outcome:
    """Upload the bundle of `function` if it was built here, and deploy it. The outcome is DEPLOYED, or DEPLOYING if
    the first start takes longer than PATIENCE. Without `exists` the deployment creates the function."""
    spec = with_flags(function, flags).to_spec()
    bundle, digest = bundle_file(function.name), ""
    try:
        if bundle.is_file() and not function.skip_build:
            digest = upload(gateway, spec.image, bundle, note)
        accepted = deploy(gateway, spec, update=exists and is_update(flags), replace=flags.replace, start=start)
    except RescoldoError as error:
        # the refused value is in the stack file, so name its line
        place = f"{function.place_of(error.message)}: " if isinstance(error, InvalidInput) else ""
        raise type(error)(f"{place}{function.name}: {error.message}") from error
    url = function_url(gateway, spec)
    data: dict[str, object] = {"name": spec.name, "namespace": spec.namespace, "image": spec.image, "url": url}
    data |= {"digest": digest} if digest else {}
    if not accepted.starting:
        return Outcome(DEPLOYED, url, data, accepted.notes)
    name = shown((spec.name, spec.namespace))
    reason = (
        f"it did not start within {PATIENCE:g} s and is still starting: wait with `rescoldo ready {name}`, or look "
        f"with `rescoldo describe {name}`"
    )
    return Outcome(DEPLOYING, reason, data | {"reason": reason}, accepted.notes)
