"""Loads the functions that a verb works on: those of a stack file, or one function described by flags."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from rescoldo.bundle.build import BUNDLE, BuildRequest, BuiltBundle, build
from rescoldo.bundle.installer import run_installer
from rescoldo.cli.flags import DeployFlags, Selection
from rescoldo.cli.output import human_size, note
from rescoldo.kinds.deployment import start_of
from rescoldo.model.errors import BuildFailed, InvalidInput
from rescoldo.model.names import check_name
from rescoldo.stack.file import StackFile, StackFunction, TemplateSource, read_stack
from rescoldo.stack.select import select
from rescoldo.stack.source import DEFAULT_NAMES, default_file
from rescoldo.stack.templates import find_template, has_template

FLAGS = "command line"


@dataclass(frozen=True, slots=True)
class Project:
    """Functions to work on, with the parts of their stack file that builds need."""

    functions: tuple[StackFunction, ...]
    gateway: str = ""
    copy: tuple[Path, ...] = ()
    folder: Path = Path()  # the stack file's folder
    templates: tuple[TemplateSource, ...] = ()  # sources of templates that are not in ./template

    @property
    def places(self) -> frozenset[Path]:
        """The folders with the functions' code."""
        return frozenset((*self.copy, *(function.handler for function in self.functions)))


def load_project(selection: Selection) -> Project:
    """Load the functions of the stack file, or the one function that flags describe.

    Raises InvalidInput; UsageError if there is neither.
    """
    described = _from_flags(selection)
    if described is not None:
        return Project((described,))
    stack = load_stack(selection.yaml_file)
    for place in stack.ignored:
        note(f"note: {place} only affects container builds; ignored")
    functions = select(stack.functions, names=selection.names, glob=selection.glob, regex=selection.regex)
    return Project(functions, stack.gateway, stack.copy, stack.folder, stack.templates)


def load_stack(yaml_file: str) -> StackFile:
    """Read the named stack file, or the one in the current folder."""
    return read_stack(stack_location(yaml_file))


def stack_location(yaml_file: str) -> str:
    """Return the path or URL of the named stack file, or of the one in the current folder. Raises UsageError if
    there is none."""
    found = yaml_file or default_file(Path())
    if not found:
        raise click.UsageError(
            f"there is no {' or '.join(DEFAULT_NAMES)} here; start with `rescoldo new NAME --lang LANG`, "
            "name a file with --yaml, or the function with flags"
        )
    return str(found)


def optional_gateway(yaml_file: str, gateway: str) -> str:
    """Return the stack file's gateway, for verbs that also work without a stack file. Returns an empty text if
    `gateway` (the flag) or the environment names a gateway, so that a broken stack file does not matter then."""
    if gateway or os.environ.get("OPENFAAS_URL") or (not yaml_file and default_file(Path()) is None):
        return ""
    return load_stack(yaml_file).gateway


def _from_flags(selection: Selection) -> StackFunction | None:
    """Return the function that --name, --image, --lang and --handler describe; None without any of these flags."""
    name, image, lang, handler = selection.name, selection.image, selection.lang, selection.handler
    if not any((name, image, lang, handler)):
        return None
    if not name:
        raise click.UsageError("--name is missing; --image, --lang and --handler need it")
    if selection.yaml_file or selection.names:
        raise click.UsageError(
            "--name, --image, --lang and --handler describe a function without a stack file; to select functions of "
            "the stack file, give NAMEs alone, or --filter"
        )
    check_name(name)
    return StackFunction(
        name=name,
        lang=lang,
        handler=Path(handler),
        where=FLAGS,
        image=image or f"{name}:latest",
        skip_build=not (lang or handler),
    )


def build_one(function: StackFunction, project: Project, *, fresh: bool, quiet: bool) -> BuiltBundle | None:
    """Build one function into ./build/NAME; None if it is marked skip_build. Raises BuildFailed or InvalidInput."""
    if function.skip_build:
        return None

    def progress(line: str) -> None:
        if not quiet or line.startswith("warning"):
            note(f"{function.name}: {line}")

    if not function.lang or function.handler == Path():
        missing = "lang" if not function.lang else "handler"
        raise InvalidInput(f"{function.where}: {function.name}: {missing} is missing")
    try:
        fetch_template(function.lang, project.templates, project.folder)
        request = build_request(function, project.copy, fresh=fresh)
        bundle = build(request, bundle_file(function.name).parent, progress, run_installer)
    except BuildFailed as error:
        raise BuildFailed(f"{function.where}: {function.name} was not built: {error.message}") from error
    progress(f"built, {human_size(bundle.size)}, {bundle.digest[:12]}")
    return bundle


def fetch_template(lang: str, templates: Sequence[TemplateSource], folder: Path) -> None:
    """Pull an absent template into ./template from the stack file's source; relative paths start in `folder`.
    Raises RescoldoError."""
    source = next((template.source for template in templates if template.name == lang), "")
    if not source or has_template(lang, Path()):
        return
    from rescoldo.stack.pull import pull_templates, shown  # runs git; only a fetch needs it

    path, mark, branch = source.partition("#")
    if (folder / path).exists():
        source = f"{folder / path}{mark}{branch}"
    note(f"pulling the template {lang} of {shown(source)}")
    pull_templates(source, Path(), only=lang)


def build_request(function: StackFunction, copy: tuple[Path, ...], *, fresh: bool = False) -> BuildRequest:
    """Return the build request for a function. Raises BuildFailed if its template is absent."""
    template = find_template(function.lang, Path())
    return BuildRequest(
        name=function.name,
        lang=function.lang,
        style=template.style,
        handler=function.handler,
        copy=copy,
        fresh=fresh,
        command=_command(function),
    )


def _command(function: StackFunction) -> tuple[str, ...]:
    """Return the deployment's command; empty if it is unknown. The gateway refuses an invalid command at deployment."""
    try:
        return start_of(function.to_spec()).command
    except InvalidInput:
        return ()


def bundle_file(name: str) -> Path:
    """Return the path of a function's bundle, in faas-cli's build context."""
    return Path("build") / name / BUNDLE


def with_flags(function: StackFunction, flags: DeployFlags) -> StackFunction:
    """Return `function` with the flags' values in place of its own. Raises UsageError."""
    limits = {"memory": flags.memory_limit, "cpu": flags.cpu_limit}
    requests = {"memory": flags.memory_request, "cpu": flags.cpu_request}
    return replace(
        function,
        namespace=flags.namespace or function.namespace,
        fprocess=flags.fprocess or function.fprocess,
        environment={**function.environment, **pairs(flags.env, "--env")},
        labels={**function.labels, **pairs(flags.label, "--label")},
        annotations={**function.annotations, **pairs(flags.annotation, "--annotation")},
        secrets=(*function.secrets, *(name for name in flags.secret if name not in function.secrets)),
        constraints=(*function.constraints, *flags.constraint),
        limits={**function.limits, **{key: value for key, value in limits.items() if value}},
        requests={**function.requests, **{key: value for key, value in requests.items() if value}},
        read_only_root_filesystem=function.read_only_root_filesystem or flags.readonly,
    )


def check_flags(flags: DeployFlags) -> None:
    """Check flags before anything is built. Raises UsageError for flags that a deployment would refuse."""
    if flags.update and flags.replace:
        raise click.UsageError("--update and --replace exclude each other; give one of them")
    for values, flag in ((flags.env, "--env"), (flags.label, "--label"), (flags.annotation, "--annotation")):
        pairs(values, flag)


def pairs(values: Sequence[str], flag: str) -> dict[str, str]:
    """Parse KEY=VALUE flags. Raises UsageError."""
    split = [value.partition("=") for value in values]
    for key, equals, value in split:
        if not key or not equals:
            raise click.UsageError(f"{flag} {key + equals + value!r}: write KEY=VALUE")
    return {key: value for key, _, value in split}
