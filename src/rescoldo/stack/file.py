"""Reads stack.yaml: a project's functions in OpenFaaS's format (https://docs.openfaas.com/reference/yaml)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rescoldo.model.errors import InvalidInput
from rescoldo.model.function import FunctionSpec
from rescoldo.model.names import DEFAULT_NAMESPACE, check_name
from rescoldo.stack.document import Document, Value, parse
from rescoldo.stack.source import Source, read_source
from rescoldo.stack.substitute import Variables

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
# These keys configure OpenFaaS's container builds, which rescoldo does not have: it lists them as ignored.
IGNORED_KEYS = ("build_args", "build_options", "build_secrets", "platforms")
_LATER = {"annotations": "", "labels": "", "environment": "", "limits": "limits.", "requests": "requests."}
QUANTITIES = ("memory", "cpu", "nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu")
VERSIONS = ("1", "1.0")

T = TypeVar("T")
_NO_TEXTS: Mapping[str, str] = {}
_NO_VALUES: Mapping[str, Value] = {}


@dataclass(frozen=True, slots=True)
class StackFunction:
    """One function of a stack file, with resolved paths and the content of its environment files."""

    name: str
    lang: str
    handler: Path
    where: str = field(compare=False)  # `file:line` for messages
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
    places: Mapping[str, str] = field(default_factory=dict, compare=False)  # of keys that errors name

    def place_of(self, problem: str) -> str:
        """Return `file:line` of the key that an error about this function names, else of the function."""
        return next((place for key, place in self.places.items() if f" {key}: " in f" {problem}"), self.where)

    def to_spec(self, namespace: str = "") -> FunctionSpec:
        """Return this function's deployment, in `namespace` if given. The default image is `NAME:latest`."""
        return FunctionSpec(
            name=self.name,
            image=self.image or f"{self.name}:latest",
            namespace=namespace or self.namespace or DEFAULT_NAMESPACE,
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
    """The origin of a template as a project configures it; nothing here fetches it."""

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class StackFile:
    """The content of a stack file, read and checked."""

    name: str  # path or URL
    folder: Path
    gateway: str  # empty: not given
    functions: tuple[StackFunction, ...]
    templates: tuple[TemplateSource, ...] = ()
    copy: tuple[Path, ...] = ()  # folders to copy into every function
    ignored: tuple[str, ...] = ()  # `file:line: key` of known keys that have no effect here


def read_stack(location: str, environment: Mapping[str, str] | None = None) -> StackFile:
    """Read the stack file at a path or http(s) URL; `environment` (os.environ) fills its variables.

    Raises InvalidInput whose message begins with `file:line:`.
    """
    return parse_stack(read_source(location), os.environ if environment is None else environment)


def parse_stack(source: Source, environment: Mapping[str, str]) -> StackFile:
    """Read a stack file's text. Raises InvalidInput whose message begins with `file:line:`."""
    stack, problems = examine_stack(source, environment)
    if problems:
        raise problems[0]
    return stack


def examine_stack(source: Source, environment: Mapping[str, str]) -> tuple[StackFile, list[InvalidInput]]:
    """Read a stack file's text; return all that is readable, and the errors in its keys and values.

    Raises InvalidInput if the text is not YAML or is empty.
    """
    root = parse(source.text, Document(source.name), Variables(source.name, environment))
    if root is None:
        raise InvalidInput(f"{source.name}:1: the file is empty; `rescoldo new NAME --lang LANG` writes one")
    reading = _Reading(source, environment)
    if not root.is_table():
        root.table()  # raises an error that names what it is instead
    top = reading.keys(root, TOP_KEYS)
    reading.get(_version, top, "version", "")
    functions = reading.get(_values, top, "functions", _NO_VALUES)
    found = [reading.function(name, value) for name, value in functions.items()]
    configuration = reading.keys(top["configuration"], CONFIGURATION_KEYS) if "configuration" in top else {}
    copy: tuple[str, ...] = reading.get(_texts, configuration, "copy", ())
    stack = StackFile(
        name=source.name,
        folder=source.folder,
        templates=reading.get(_templates, configuration, "templates", ()),
        copy=tuple(source.path(item) for item in copy),
        gateway=reading.gateway(root, top),
        functions=tuple(function for function in found if function is not None),
        ignored=tuple(reading.ignored),
    )
    return stack, reading.problems


@dataclass(slots=True)
class _Reading:
    """Reads a stack file in one pass, and gathers its errors instead of stopping at the first."""

    source: Source
    environment: Mapping[str, str]
    ignored: list[str] = field(default_factory=list)
    problems: list[InvalidInput] = field(default_factory=list)

    def get(self, read: Callable[[Mapping[str, Value], str], T], table: Mapping[str, Value], key: str, empty: T) -> T:
        """Return the result of `read`, or `empty` if the value is missing or wrong."""
        try:
            return read(table, key) if key in table else empty
        except InvalidInput as error:
            self.problems.append(error)
            return empty

    def keys(self, value: Value, allowed: tuple[str, ...]) -> dict[str, Value]:
        """Return the allowed keys of a mapping; none if `value` is no mapping."""
        return self.readable(value, allowed) or {}

    def readable(self, value: Value, allowed: tuple[str, ...]) -> dict[str, Value] | None:
        """As `keys`, but None if `value` is no mapping or repeats a key."""
        try:
            table = value.table()
        except InvalidInput as error:
            self.problems.append(error)
            return None
        self.problems += [item.unknown(key, allowed) for key, item in table.items() if key not in allowed]
        return {key: item for key, item in table.items() if key in allowed}

    def gateway(self, root: Value, top: Mapping[str, Value]) -> str:
        if "provider" not in top:
            self.problems.append(root.error("provider is missing; add `provider: {name: openfaas}`"))
            return ""
        provider = self.keys(top["provider"], PROVIDER_KEYS)
        name = self.get(_text, provider, "name", "")
        if name != "openfaas":
            found = provider.get("name", top["provider"])
            self.problems.append(found.error(f"{name!r} is not allowed; use openfaas"))
        return self.get(_gateway, provider, "gateway", "")

    def function(self, name: str, value: Value) -> StackFunction | None:
        """Return one function; None if its name is not valid or its keys cannot be read."""
        try:
            check_name(name)
        except InvalidInput as error:
            self.problems.append(value.error(error.message))
            return None
        table = self.readable(value, FUNCTION_KEYS + IGNORED_KEYS)
        if table is None:
            return None
        self.ignored += [f"{self.source.name}:{table[key].line}: {name}.{key}" for key in IGNORED_KEYS if key in table]
        image, skip_build = self.get(_text, table, "image", ""), self.get(_flag, table, "skip_build", False)
        self._need(name, value, table, image, skip_build)
        return StackFunction(
            name=name,
            lang=self.get(_text, table, "lang", ""),
            handler=self.source.path(self.get(_text, table, "handler", "")),
            where=f"{self.source.name}:{value.line}",
            image=image or f"{name}:latest",
            namespace=self.get(_namespace, table, "namespace", ""),
            fprocess=self.get(_text, table, "fprocess", ""),
            environment=self._environment(table),
            secrets=self.get(_texts, table, "secrets", ()),
            labels=self.get(_table, table, "labels", _NO_TEXTS),
            annotations=self.get(_table, table, "annotations", _NO_TEXTS),
            constraints=self.get(_texts, table, "constraints", ()),
            limits=self.get(_quantities, table, "limits", _NO_TEXTS),
            requests=self.get(_quantities, table, "requests", _NO_TEXTS),
            read_only_root_filesystem=self.get(_flag, table, "readonly_root_filesystem", False),
            skip_build=skip_build,
            places=self._places(table),
        )

    def _places(self, table: Mapping[str, Value]) -> dict[str, str]:
        """Return the places of the keys whose values are checked later, by the keys' names in errors."""
        places: dict[str, str] = {}
        for key, prefix in _LATER.items():
            with suppress(InvalidInput):  # already among the problems
                values = table[key].table() if key in table else {}
                places |= {f"{prefix}{name}": value.place for name, value in values.items()}
        return places

    def _need(self, name: str, value: Value, table: Mapping[str, Value], image: str, skip_build: bool) -> None:
        """Add a problem for each missing key."""
        if skip_build:
            if not image:
                self.problems.append(value.error("skip_build needs `image:`, the name of an image that was built"))
            return
        for key, example in (("lang", "python3-http"), ("handler", f"./{name}")):
            if key not in table or table[key].is_null():
                self.problems.append(value.error(f"{key} is missing; add for example `{key}: {example}`"))

    def _environment(self, table: Mapping[str, Value]) -> dict[str, str]:
        """Return the inline environment; each environment file in turn overrides it."""
        environment = dict(self.get(_table, table, "environment", _NO_TEXTS))
        files: tuple[Value, ...] = self.get(_items, table, "environment_file", ())
        for item in files:
            try:
                environment |= self._environment_file(item)
            except InvalidInput as error:
                self.problems.append(error)
        return environment

    def _environment_file(self, item: Value) -> dict[str, str]:
        path = self.source.path(item.text())
        if not path.is_file():
            shown = repr(str(path))
            raise item.error(f"{shown} is not a file" if path.exists() else f"the file {shown} does not exist")
        source = read_source(str(path))
        root = parse(source.text, Document(source.name), Variables(source.name, self.environment))
        if root is None:
            return {}
        table = root.only(("environment",))
        return table["environment"].text_table() if "environment" in table else {}


def _version(table: Mapping[str, Value], key: str) -> str:
    if table[key].text() not in VERSIONS:
        raise table[key].error(f"{table[key].text()!r} is not allowed; use 1.0")
    return table[key].text()


def _values(table: Mapping[str, Value], key: str) -> Mapping[str, Value]:
    return table[key].table()


def _items(table: Mapping[str, Value], key: str) -> tuple[Value, ...]:
    return tuple(table[key].items())


def _gateway(table: Mapping[str, Value], key: str) -> str:
    gateway = table[key].text().rstrip("/")
    if gateway and not gateway.startswith(("http://", "https://")):
        raise table[key].error(f"{gateway!r} is not a URL; write for example http://127.0.0.1:8080")
    return gateway


def _templates(table: Mapping[str, Value], key: str) -> tuple[TemplateSource, ...]:
    found = [item.only(("name", "source")) for item in table[key].items()]
    return tuple(
        TemplateSource(*(item[name].text() if name in item else "" for name in ("name", "source"))) for item in found
    )


def _text(table: Mapping[str, Value], key: str) -> str:
    return table[key].text()


def _texts(table: Mapping[str, Value], key: str) -> tuple[str, ...]:
    return table[key].texts()


def _flag(table: Mapping[str, Value], key: str) -> bool:
    return not table[key].is_null() and table[key].flag()


def _table(table: Mapping[str, Value], key: str) -> Mapping[str, str]:
    return table[key].text_table()


def _quantities(table: Mapping[str, Value], key: str) -> Mapping[str, str]:
    return {name: value.text() for name, value in table[key].only(QUANTITIES).items()}


def _namespace(table: Mapping[str, Value], key: str) -> str:
    namespace = table[key].text()
    if namespace:
        try:
            check_name(namespace, "namespace")
        except InvalidInput as error:
            raise table[key].error(error.message) from error
    return namespace
