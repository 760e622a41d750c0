"""Reads what faas-cli sends to a remote builder: a configuration, and the folder that it would give to Docker.

Source: https://docs.openfaas.com/openfaas-pro/builder. The folder is a template with the user's files in it. Its
Dockerfile is not run: the function of a Python template becomes a bundle, and other templates are refused.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rescoldo.bundle.unpack import read_member
from rescoldo.kinds.registry import KINDS, styles_of_templates
from rescoldo.model.errors import BuildFailed, InvalidInput, StoreError
from rescoldo.model.metadata import check_image, check_number, check_text
from rescoldo.model.text import one_line, read_json
from rescoldo.stack.templates import ALIASES, read_foreign

CONFIG = "com.openfaas.docker.config"
SECRETS = "com.openfaas.secrets"
CONTEXT = "context"
MAX_CONFIG = 2**16  # bytes
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # Docker's names
_SHOWN = 20  # names of ignored settings in a note


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """The build that the client wants. `skipPush` changes nothing, since images are never pushed."""

    image: str
    arguments: tuple[str, ...] = ()  # names; the values may be secret
    platforms: tuple[str, ...] = ()
    secrets: bool = False  # whether the archive holds sealed ones

    def notes(self) -> list[str]:
        """A sentence for each of its settings that has no effect here."""
        found = []
        if self.arguments:
            names = ", ".join(self.arguments[:_SHOWN])
            found.append(f"note: build arguments only affect container builds; ignored: {names}")
        here = ARCHITECTURES.get(platform.machine(), platform.machine())
        if self.platforms and not any(name.split("/")[1:2] == [here] for name in self.platforms):
            names = ", ".join(self.platforms[:_SHOWN])
            found.append(f"note: the function is built for this machine ({here}), not for {names}")
        if self.secrets:
            found.append("note: build secrets only affect container builds; they are not opened")
        return [one_line(line) for line in found]


@dataclass(frozen=True, slots=True)
class FoundFunction:
    """The function in a build's folder."""

    lang: str
    style: str  # of its kind (Kind.styles)
    handler: Path = field(default_factory=Path)


def read_config(folder: Path) -> BuildConfig:
    """Read the configuration from the archive unpacked at `folder`. Raises InvalidInput."""
    _check_members(folder)
    file = folder / CONFIG
    if file.is_symlink() or not file.is_file():
        raise InvalidInput(f"the archive holds no {CONFIG}; send what faas-cli sends")
    with file.open("rb") as opened:
        config = _parse(opened.read(MAX_CONFIG + 1))
    return BuildConfig(
        _image(config),
        _names(config, "buildArgs", dict),
        _names(config, "platforms", list),
        (folder / SECRETS).exists(),
    )


def image_of(upload: Path) -> str:
    """Read the name of the image that an archive becomes, without unpacking it. Raises InvalidInput, TooLarge,
    StoreError.

    A cluster's control takes the name from here, never from the pod that builds: packages' code runs there, and could
    name an image of somebody else's.
    """
    try:
        with upload.open("rb") as archive:
            data = read_member(archive, CONFIG, MAX_CONFIG + 1)
    except OSError as error:
        raise StoreError(f"{upload}: {error.strerror or error}") from error
    if data is None:
        raise InvalidInput(f"the archive holds no {CONFIG}; send what faas-cli sends")
    return _image(_parse(data))


def _parse(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_CONFIG:
        raise InvalidInput(f"{CONFIG} is larger than the {MAX_CONFIG} bytes allowed")
    try:
        config = read_json(data)
    except ValueError as error:
        raise InvalidInput(f"{CONFIG} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise InvalidInput(f"{CONFIG} must hold an object")
    return config


def _image(config: dict[str, Any]) -> str:
    image = config.get("image")
    if not isinstance(image, str) or not image:
        raise InvalidInput(f"{CONFIG}: image is missing: name the image that the build becomes")
    check_image(image)
    return image


def _check_members(folder: Path) -> None:
    others = sorted({item.name for item in folder.iterdir()} - {CONFIG, SECRETS, CONTEXT})
    if others:
        raise InvalidInput(
            f"the archive holds {others[0][:80]!r}; {CONFIG}, {SECRETS} and the folder {CONTEXT} are allowed"
        )


def _names(config: dict[str, Any], key: str, kind: type[dict[str, Any]] | type[list[Any]]) -> tuple[str, ...]:
    found = config.get(key)
    if found is None:  # Go's encoding of an empty list or map
        return ()
    if not isinstance(found, kind) or not all(isinstance(name, str) for name in found):
        raise InvalidInput(f"{CONFIG}: {key} must be {'names and values' if kind is dict else 'a list of names'}")
    check_number(f"{CONFIG}: {key}", found)
    for name in found:
        check_text(f"{CONFIG}: {key}", name)
    return tuple(found)


def find_function(context: Path) -> FoundFunction:
    """Find the function in the folder that `build --shrinkwrap` wrote. Raises BuildFailed if it is no Python
    function, and InvalidInput for an unreadable template.yml."""
    if not context.is_dir() or context.is_symlink():
        raise BuildFailed(f"the archive holds no folder {CONTEXT}; send what faas-cli sends")
    if not (context / "template.yml").is_file():
        raise BuildFailed(_refusal("a Dockerfile of its own"))
    template = read_foreign(context)
    handler = context / template.handler_folder
    if template.style:  # the template names our style itself
        return FoundFunction(template.language or template.style, template.style, handler)
    known = ALIASES.get(template.language, template.language)
    for kind in KINDS.values():
        if style := kind.recognise(known, context, handler):
            return FoundFunction(template.language, style, handler)
    raise BuildFailed(_refusal(f"the template {template.language!r}"))


def _refusal(what: str) -> str:
    return one_line(
        f"the function has {what[:200]}, and this builder runs no Dockerfile; it builds the Python templates "
        f"{', '.join(_known())}, and others that have index.py beside function/handler.py. Deploy a program of another "
        "language with `rescoldo up` and `lang: process`"
    )


def _known() -> list[str]:
    """The names of OpenFaaS's templates that this builder supports."""
    known = styles_of_templates()
    return [*known, *(alias for alias, name in ALIASES.items() if name in known)]
