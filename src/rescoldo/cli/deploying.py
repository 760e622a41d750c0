"""Deploys what was built here: one function, or all functions of a project in parallel."""

from __future__ import annotations

from dataclasses import replace

from rescoldo.cli.deployment import PATIENCE, deploy, function_url, upload
from rescoldo.cli.flags import DeployFlags
from rescoldo.cli.gateway import Gateway
from rescoldo.cli.notes import tell_notes
from rescoldo.cli.output import note
from rescoldo.cli.project import Project, bundle_file, with_flags
from rescoldo.cli.results import (
    DEPLOYED,
    DEPLOYING,
    UNCHANGED,
    Outcome,
    Results,
    for_each_at_once,
    reference_of,
    shown,
)
from rescoldo.model.errors import InvalidInput, RescoldoError
from rescoldo.model.function import FunctionSpec
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

    Skips functions that have an outcome in `results`. Raises GatewayClosed.
    """

    def work(function: StackFunction) -> Outcome:
        return _deployed(gateway, function, flags, start=start)

    functions = {reference_of(function, flags.namespace): function for function in project.functions}
    for_each_at_once(functions, results, work, parallel)


def _deployed(gateway: Gateway, function: StackFunction, flags: DeployFlags, *, start: bool) -> Outcome:
    """Deploy one function; UNCHANGED if the gateway gave it no new revision."""
    spec = with_flags(function, flags).to_spec()
    exists, before = _found(gateway, spec) if is_update(flags) else (True, None)
    outcome = deploy_one(gateway, function, flags, exists=exists, start=start)
    if before is not None and before == _found(gateway, spec)[1]:
        return replace(outcome, state=UNCHANGED) if outcome.state == DEPLOYED else outcome
    tell_notes(spec.name, outcome.notes)
    return outcome


def _found(gateway: Gateway, spec: FunctionSpec) -> tuple[bool, int | None]:
    """Return whether the function may exist, and its revision; None if the gateway does not report revisions."""
    own = spec.namespace if spec.namespace != DEFAULT_NAMESPACE else ""
    answer = gateway.system(
        "GET", f"/system/function/{spec.name}", params={"namespace": own}, accept=(200, 202, 404, 400, 500, 502, 503)
    )
    try:
        return answer.status_code != 404, int(answer.json()["revision"])
    except (ValueError, TypeError, KeyError):
        return answer.status_code != 404, None


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
