"""Reads stores: lists of functions or of templates, at a URL or in a file (https://github.com/openfaas/store)."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError

from rescoldo.model.errors import InvalidInput, NotFound
from rescoldo.model.violations import describe
from rescoldo.stack.document import suggestion
from rescoldo.stack.file import StackFunction
from rescoldo.stack.source import read_source

# architecture by uname → in stores
_ARCHITECTURES = {"aarch64": "arm64", "armv7l": "armhf", "armv6l": "armhf", "amd64": "x86_64"}

Found = TypeVar("Found")
Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
Flag = Annotated[bool, BeforeValidator(lambda value: value or False)]  # stores write "true" as well
Table = Annotated[dict[str, str], BeforeValidator(lambda value: {} if value is None else value)]


class StoreFunction(BaseModel):
    """A function that its author published as a container image."""

    name: str
    title: Text = ""
    description: Text = ""
    author: Text = ""
    images: Table = Field(default_factory=dict)  # architecture → image
    fprocess: Text = ""
    environment: Table = Field(default_factory=dict)
    labels: Table = Field(default_factory=dict)
    annotations: Table = Field(default_factory=dict)
    read_only_root_filesystem: Flag = Field(default=False, alias="readOnlyRootFilesystem")
    repo_url: Text = ""

    def image(self, architecture: str) -> str:
        """Return the image for `architecture`. Raises NotFound, naming the available ones."""
        if architecture not in self.images:
            there = ", ".join(sorted(self.images)) or "none"
            raise NotFound(f"{self.name} is not available for {architecture}, only for {there}: choose with --platform")
        return self.images[architecture]


class StoreTemplate(BaseModel):
    """A template and its repository."""

    template: str
    platform: Text = ""
    language: Text = ""
    source: Text = ""
    description: Text = ""
    repo: Text = ""  # what git clones; `#BRANCH` may follow
    official: Flag = False
    recommended: Flag = False


class _Functions(BaseModel):
    functions: list[StoreFunction]


def architecture_here() -> str:
    """Return this machine's architecture as stores name it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def read_functions(location: str) -> list[StoreFunction]:
    """Return the functions of the store at a URL or path, sorted by name. Raises InvalidInput."""
    found = _read(location, TypeAdapter(_Functions)).functions
    return sorted(found, key=lambda function: function.name)


def read_templates(location: str) -> list[StoreTemplate]:
    """Return the templates of the store at a URL or path, sorted by name. Raises InvalidInput."""
    return sorted(_read(location, TypeAdapter(list[StoreTemplate])), key=lambda template: template.template)


def find(found: dict[str, Found], name: str, location: str) -> Found:
    """Return the entry `name`. Raises NotFound, suggesting a similar name."""
    if name not in found:
        raise NotFound(f"{location} has no {name[:80]!r}{suggestion(name, list(found))}")
    return found[name]


def from_store(found: StoreFunction, location: str, architecture: str) -> StackFunction:
    """Return `found` as a function to deploy, with its image for `architecture` (empty: this machine's)."""
    return StackFunction(
        name=found.name,
        lang="",
        handler=Path(),
        where=location,
        image=found.image(architecture or architecture_here()),
        fprocess=found.fprocess,
        environment=found.environment,
        labels=found.labels,
        annotations=found.annotations,
        read_only_root_filesystem=found.read_only_root_filesystem,
        skip_build=True,
    )


def _read(location: str, kind: TypeAdapter[Any]) -> Any:
    text = read_source(location).text
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[:1]
        raise InvalidInput(f"{location}: not a store: {describe(first)}") from error
