"""Names of images, as Docker reads them."""

from __future__ import annotations

import pytest

from rescoldo.image.reference import Reference, parse
from rescoldo.model.errors import InvalidInput

DIGEST = f"sha256:{'0f' * 32}"


@pytest.mark.parametrize(
    ("name", "registry", "repository", "tag", "digest"),
    [
        ("python", "docker.io", "library/python", "latest", ""),
        ("python:3.11-slim", "docker.io", "library/python", "3.11-slim", ""),
        ("me/rescoldo:1", "docker.io", "me/rescoldo", "1", ""),
        ("ghcr.io/me/my/rescoldo:1", "ghcr.io", "me/my/rescoldo", "1", ""),
        ("localhost/a", "localhost", "a", "latest", ""),
        ("localhost:5000/a:V1", "localhost:5000", "a", "V1", ""),
        ("[::1]:5000/a:1", "[::1]:5000", "a", "1", ""),
        (f"quay.io/a/b@{DIGEST}", "quay.io", "a/b", "", DIGEST),
        (f"quay.io/a/b:1@{DIGEST}", "quay.io", "a/b", "1", DIGEST),
    ],
)
def test_a_name_is_read(name: str, registry: str, repository: str, tag: str, digest: str) -> None:
    assert parse(name, "--push") == Reference(registry, repository, tag, digest)


@pytest.mark.parametrize(
    "name",
    ["", "/a", "a//b", "A/b:1", "ghcr.io/", "ghcr.io/Me/a", "a:b:c", "a:", "a@", "a@sha256:12", "a@md5:" + "0" * 64,
     "a b", "https://ghcr.io/me/a", "../a", "ghcr.io/a/../b", "a:" + "x" * 129, "g.io/" + "a" * 256],
)  # fmt: skip
def test_what_is_no_name_names_the_flag(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"^--push .* is no name of an image"):
        parse(name, "--push")


@pytest.mark.parametrize("name", ["docker.io/library/python:3", "localhost:5000/a:1", f"ghcr.io/a@{DIGEST}"])
def test_a_name_in_full_is_printed_as_it_was(name: str) -> None:
    assert str(parse(name, "--base")) == name


def test_docker_s_registry_has_its_api_elsewhere() -> None:
    assert parse("python", "--base").host == "registry-1.docker.io"
    assert parse("ghcr.io/a", "--base").host == "ghcr.io"


@pytest.mark.parametrize(
    ("registry", "is_loopback"),
    [("localhost:5000", True), ("127.0.0.1:5000", True), ("[::1]:1", True), ("ghcr.io", False), ("10.0.0.1:1", False)],
)
def test_registries_of_this_machine(registry: str, is_loopback: bool) -> None:
    assert parse(f"{registry}/a", "--push").is_loopback == is_loopback
