"""Checks a function before it is built: its own files first, then the gateway's namespaces and secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rescoldo.bundle.build import check
from rescoldo.cli.flags import DeployFlags
from rescoldo.cli.gateway import Gateway
from rescoldo.cli.project import Project, build_request, fetch_template, with_flags
from rescoldo.cli.results import Results, reference_of
from rescoldo.kinds.deployment import check_spec
from rescoldo.kinds.registry import kind_of_style
from rescoldo.model.errors import InvalidInput, RescoldoError
from rescoldo.model.names import DEFAULT_NAMESPACE
from rescoldo.model.scaling import MAX_REPLICAS, ScalingDefaults
from rescoldo.stack.file import StackFunction, TemplateSource
from rescoldo.stack.templates import find_template, has_template

_PLACE = re.compile(r"[^:\n]+:\d+: ")
# A gateway may allow a higher maximum than the default. Only the gateway knows its maximum, so it refuses by
# itself.
_ANY_MAXIMUM = ScalingDefaults(maximum=MAX_REPLICAS)
# Statuses without an answer to the question: other gateways have no namespaces, or do not list them.
_SILENT = (200, 201, 202, 400, 403, 404, 405, 500, 501, 502, 503)


def problems_of(
    function: StackFunction, copy: tuple[Path, ...], templates: Sequence[TemplateSource] = ()
) -> list[str]:
    """Return the problems of a function's settings and code; the stack file's keys were checked earlier. Fetches
    nothing."""
    source = next((template.source for template in templates if template.name == function.lang), "")
    if source and _is_built(function) and not has_template(function.lang, Path()):
        absent = f"its template {function.lang!r} is not in ./template; fetch it with `rescoldo template pull stack`"
        return [*_settings(function, build=False), f"{function.where}: {function.name}: {absent}"]
    return [*_settings(function), *(_code(function, copy) if _is_built(function) else ())]


def check_project(project: Project, flags: DeployFlags, results: Results, *, build: bool) -> None:
    """Fail the functions with wrong settings; with `build` also those with a wrong template, fetched if it is
    absent."""
    for function in project.functions:
        wanted = with_flags(function, flags)
        found = list(_fetched(wanted, project)) if build and _is_built(wanted) else []
        if found := found or list(_settings(wanted, build=build)):
            results.fail(reference_of(wanted), InvalidInput("\n".join(found)))


def check_gateway(gateway: Gateway, project: Project, flags: DeployFlags, results: Results) -> None:
    """Fail the functions whose namespace or secrets are absent on `gateway`. Raises GatewayClosed."""
    wanted = [with_flags(function, flags) for function in project.functions]
    wanted = [function for function in wanted if results.is_open(reference_of(function))]
    spaces = _namespaces(gateway, wanted)
    secrets = {space: _names(gateway, "/system/secrets", space) for space in _places(f for f in wanted if f.secrets)}
    for function in wanted:
        if problem := _missing(function, spaces, secrets.get(reference_of(function)[1])):
            results.fail(reference_of(function), InvalidInput(f"{function.where}: {function.name}: {problem}"))


def _is_built(function: StackFunction) -> bool:
    # reading the stack file has already reported other missing keys
    return not function.skip_build and bool(function.lang) and function.handler != Path()


def _fetched(function: StackFunction, project: Project) -> Iterator[str]:
    """Fetch the function's template if it is absent; yield the problem if that fails."""
    try:
        fetch_template(function.lang, project.templates, project.folder)
    except RescoldoError as error:
        yield f"{function.where}: {function.name}: {error.message}"


def _settings(function: StackFunction, *, build: bool = True) -> Iterator[str]:
    held = ""
    if build and _is_built(function):
        try:
            held = kind_of_style(find_template(function.lang, Path()).style).name
        except RescoldoError as error:
            yield f"{function.where}: {function.name}: {error.message}"
    try:
        check_spec(function.to_spec(), scaling=_ANY_MAXIMUM, held=held)
    except InvalidInput as error:
        yield f"{function.place_of(error.message)}: {function.name}: {error.message}"


def _code(function: StackFunction, copy: tuple[Path, ...]) -> Iterator[str]:
    try:
        find_template(function.lang, Path())
    except RescoldoError:
        return  # _settings has reported it
    try:
        check(build_request(function, copy))
    except RescoldoError as error:
        # a line in the function's own file is more precise than its line in stack.yaml
        own = _PLACE.match(error.message)
        yield error.message if own else f"{function.where}: {function.name}: {error.message}"


def _missing(function: StackFunction, spaces: set[str] | None, secrets: set[str] | None) -> str:
    """Return what is missing on the gateway, with the remedy. None: the gateway did not list its namespaces or
    secrets."""
    space = reference_of(function)[1]
    if spaces is not None and space not in spaces:
        return f"namespace {space!r} does not exist; create it first: rescoldo namespace create {space}"
    missing = [] if secrets is None else [name for name in function.secrets if name not in secrets]
    if missing:
        return (
            f"namespace {space} has no secret {', '.join(missing)}: create it first, for example with "
            f"`rescoldo secret create {missing[0]} --from-file FILE --namespace {space}`"
        )
    return ""


def _places(functions: Iterable[StackFunction]) -> list[str]:
    return list(dict.fromkeys(reference_of(function)[1] for function in functions))


def _namespaces(gateway: Gateway, functions: list[StackFunction]) -> set[str] | None:
    named = set(_places(functions)) - {DEFAULT_NAMESPACE}
    return _names(gateway, "/system/namespaces", "") if named else None


def _names(gateway: Gateway, path: str, namespace: str) -> set[str] | None:
    """Return the names in one of the gateway's lists; None if the gateway has no such list."""
    answer = gateway.system("GET", path, params={"namespace": namespace}, accept=_SILENT)
    try:
        found = answer.json() if answer.status_code == 200 else None
        return None if found is None else {item["name"] if isinstance(item, dict) else str(item) for item in found}
    except (ValueError, TypeError, KeyError):
        return None
