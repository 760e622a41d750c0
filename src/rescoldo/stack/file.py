"""stack.yaml: the functions of a project, as OpenFaaS writes them (contracts/openfaas.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rescoldo.model.errors import InvalidInput
from rescoldo.model.function import FunctionSpec
from rescoldo.model.names import DEFAULT_NAMESPACE, check_name
from rescoldo.stack.document import Document, Value, parse
from rescoldo.stack.source import Source, read_source
from rescoldo.stack.substitute import substitute

TOP_KEYS = ("version", "provider", "functions", "configuration")
PROVIDER_KEYS = ("name", "gateway", "network")
CONFIGURATION_KEYS = ("templates", "copy")
FUNCTION_KEYS = (
    "lang",
    "handler",
    "image",
    "namespace",
    "fprocess",
    "environment",
    "environment_file",
    "secrets",
    "labels",
    "annotations",
    "constraints",
    "limits",
    "requests",
    "readonly_root_filesystem",
    "skip_build",
)
# OpenFaaS gives these a meaning in container builds, which do not exist here: read, listed, not used.
IGNORED_KEYS = ("build_args", "build_options", "build_secrets", "platforms")
QUANTITIES = ("memory", "cpu", "nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu")
VERSIONS = ("1", "1.0")


@dataclass(frozen=True, slots=True)
class StackFunction:
    """One function of a stack file; paths are resolved, the environment files are read in."""

    name: str
    lang: str
    handler: Path
    where: str  # `file:line` for messages
    image: str = ""
    namespace: str = ""
    fprocess: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    limits: Mapping[str, str] = field(default_factory=dict)
    requests: Mapping[str, str] = field(default_factory=dict)
    read_only_root_filesystem: bool = False
    skip_build: bool = False

    def to_spec(self) -> FunctionSpec:
        """The deployment this function asks for; without an image it is named `NAME:latest`."""
        return FunctionSpec(
            name=self.name,
            image=self.image or f"{self.name}:latest",
            namespace=self.namespace or DEFAULT_NAMESPACE,
            env_process=self.fprocess,
            env_vars=self.environment,
            labels=self.labels,
            annotations=self.annotations,
            constraints=self.constraints,
            secrets=self.secrets,
            limits=self.limits,
            requests=self.requests,
            read_only_root_filesystem=self.read_only_root_filesystem,
        )


@dataclass(frozen=True, slots=True)
class TemplateSource:
    """Where a project says a template comes from; nothing here fetches it."""

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class StackFile:
    """A stack file that has been read and checked."""

    name: str  # path or URL
    folder: Path
    gateway: str  # empty: not given
    functions: tuple[StackFunction, ...]
    templates: tuple[TemplateSource, ...] = ()
    copy: tuple[Path, ...] = ()  # folders to copy into every function
    ignored: tuple[str, ...] = ()  # `file:line: key` of what is known and has no meaning here


def read_stack(location: str, environment: Mapping[str, str] | None = None) -> StackFile:
    """Read the stack file at a path or http(s) URL; `environment` (os.environ) fills its variables.

    Raises InvalidInput whose message begins with `file:line:`.
    """
    return parse_stack(read_source(location), os.environ if environment is None else environment)


def parse_stack(source: Source, environment: Mapping[str, str]) -> StackFile:
    """Read a stack file's text. Raises InvalidInput whose message begins with `file:line:`."""
    text, lines = substitute(source.text, environment, source.name)
    root = parse(text, Document(source.name, lines))
    if root is None:
        raise InvalidInput(f"{source.name}:1: the file is empty; `rescoldo new NAME --lang LANG` writes one")
    top = root.only(TOP_KEYS)
    if (version := top.get("version")) and version.text() not in VERSIONS:
        raise version.error(f"{version.text()!r} is not allowed; use 1.0")
    ignored: list[str] = []
    functions = tuple(
        _function(name, value, source, environment, ignored)
        for name, value in (top["functions"].table() if "functions" in top else {}).items()
    )
    configuration = top["configuration"].only(CONFIGURATION_KEYS) if "configuration" in top else {}
    templates = configuration["templates"].items() if "templates" in configuration else []
    return StackFile(
        name=source.name,
        folder=source.folder,
        gateway=_provider(root, top),
        functions=functions,
        templates=tuple(_template(item) for item in templates),
        copy=tuple(source.path(item) for item in _texts(configuration, "copy")),
        ignored=tuple(ignored),
    )


def _provider(root: Value, top: Mapping[str, Value]) -> str:
    if "provider" not in top:
        raise root.error("provider is missing; add `provider: {name: openfaas}`")
    provider = top["provider"].only(PROVIDER_KEYS)
    name = provider["name"].text() if "name" in provider else ""
    if name != "openfaas":
        raise provider.get("name", top["provider"]).error(f"{name!r} is not allowed; use openfaas")
    gateway = provider["gateway"].text().rstrip("/") if "gateway" in provider else ""
    if gateway and not gateway.startswith(("http://", "https://")):
        raise provider["gateway"].error(f"{gateway!r} is not a URL; write for example http://127.0.0.1:8080")
    return gateway


def _template(value: Value) -> TemplateSource:
    table = value.only(("name", "source"))
    return TemplateSource(*(table[key].text() if key in table else "" for key in ("name", "source")))


def _function(
    name: str, value: Value, source: Source, environment: Mapping[str, str], ignored: list[str]
) -> StackFunction:
    try:
        check_name(name)
    except InvalidInput as error:
        raise value.error(error.message) from error
    table = value.only(FUNCTION_KEYS + IGNORED_KEYS)
    ignored += [f"{source.name}:{table[key].line}: {name}.{key}" for key in IGNORED_KEYS if key in table]
    known = {key: item for key, item in table.items() if key in FUNCTION_KEYS}
    function = StackFunction(
        name=name,
        lang=_text(known, "lang"),
        handler=source.path(_text(known, "handler")),
        where=f"{source.name}:{value.line}",
        image=_text(known, "image"),
        namespace=_namespace(known),
        fprocess=_text(known, "fprocess"),
        environment=_environment(known, source, environment),
        secrets=_texts(known, "secrets"),
        labels=_table(known, "labels"),
        annotations=_table(known, "annotations"),
        constraints=_texts(known, "constraints"),
        limits=_quantities(known, "limits"),
        requests=_quantities(known, "requests"),
        read_only_root_filesystem=_flag(known, "readonly_root_filesystem"),
        skip_build=_flag(known, "skip_build"),
    )
    return _complete(function, value, known)


def _complete(function: StackFunction, value: Value, known: Mapping[str, Value]) -> StackFunction:
    """Check what depends on more than one key."""
    if function.skip_build:
        if not function.image:
            raise value.error("skip_build needs `image:`, the name of what was built before")
        return function
    for key in ("lang", "handler"):
        if not _text(known, key):
            example = "python3-http" if key == "lang" else f"./{function.name}"
            raise value.error(f"{key} is missing; add for example `{key}: {example}`")
    return replace(function, image=function.image or f"{function.name}:latest")


def _text(table: Mapping[str, Value], key: str) -> str:
    return table[key].text() if key in table else ""


def _texts(table: Mapping[str, Value], key: str) -> tuple[str, ...]:
    return table[key].texts() if key in table else ()


def _flag(table: Mapping[str, Value], key: str) -> bool:
    return key in table and not table[key].is_null() and table[key].flag()


def _table(table: Mapping[str, Value], key: str) -> dict[str, str]:
    return table[key].text_table() if key in table else {}


def _quantities(table: Mapping[str, Value], key: str) -> dict[str, str]:
    return {name: value.text() for name, value in table[key].only(QUANTITIES).items()} if key in table else {}


def _namespace(table: Mapping[str, Value]) -> str:
    namespace = _text(table, "namespace")
    if namespace:
        try:
            check_name(namespace, "namespace")
        except InvalidInput as error:
            raise table["namespace"].error(error.message) from error
    return namespace


def _environment(table: Mapping[str, Value], source: Source, variables: Mapping[str, str]) -> dict[str, str]:
    """The inline environment, then each file over what came before it."""
    environment = _table(table, "environment")
    for item in table["environment_file"].items() if "environment_file" in table else []:
        path = source.path(item.text())
        if not path.is_file():
            raise item.error(f"there is no file {str(path)!r}")
        environment |= _environment_file(path, variables)
    return environment


def _environment_file(path: Path, variables: Mapping[str, str]) -> dict[str, str]:
    source = read_source(str(path))
    text, lines = substitute(source.text, variables, source.name)
    root = parse(text, Document(source.name, lines))
    return _table(root.only(("environment",)), "environment") if root else {}
