"""Names of images: REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@DIGEST, read as Docker reads them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from rescoldo.model.errors import InvalidInput

DOCKER = "docker.io"
_DOCKER_HOST = "registry-1.docker.io"  # where the API of docker.io is
# https://github.com/distribution/reference has the grammar
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_REGISTRY = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's name in full."""

    registry: str  # docker.io, ghcr.io, localhost:5000
    repository: str  # library/python
    tag: str
    digest: str = ""  # sha256:…; counts instead of the tag

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}" + (f"@{self.digest}" if self.digest else f":{self.tag}")

    @property
    def version(self) -> str:
        """The digest, else the tag: by what a registry is asked."""
        return self.digest or self.tag

    @property
    def host(self) -> str:
        """HOST[:PORT] of the registry's API."""
        return _DOCKER_HOST if self.registry == DOCKER else self.registry

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is on this machine, where it may speak plain HTTP, as Docker has it."""
        name = re.sub(r":\d+$", "", self.registry).strip("[]")
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return name == "localhost"


def is_digest(text: str) -> bool:
    """Return whether `text` is sha256: and 64 hex digits."""
    return _DIGEST.fullmatch(text) is not None


def parse(name: str, flag: str) -> Reference:
    """Read an image's name, with the tag `latest` if it has none. Raises InvalidInput, which names `flag`.

    The first part is a registry if it has a dot or a port or is `localhost`: python:3.11-slim is
    docker.io/library/python:3.11-slim.
    """
    rest, _, digest = name.partition("@")
    first, slash, others = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, rest = first, others
    else:
        registry, rest = DOCKER, rest if slash else f"library/{rest}"
    repository, _, tag = rest.partition(":")
    found = Reference(registry, repository, tag or ("" if digest else "latest"), digest)
    valid = (
        _REGISTRY.fullmatch(registry)
        and _REPOSITORY.fullmatch(repository)
        and len(repository) <= 255
        and (_TAG.fullmatch(tag) if ":" in rest else True)
        and (is_digest(digest) if "@" in name else True)
    )
    if not valid:
        raise InvalidInput(
            f"{flag} {name[:200]!r} is no name of an image: write REGISTRY/NAME:TAG, in lower case but for the tag, as "
            "ghcr.io/me/rescoldo:1"
        )
    return found
