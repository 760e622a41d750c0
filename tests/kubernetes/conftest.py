"""The real cluster for all tests: brought up by the first of them, unless one is up, and then taken down at the end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress

import pytest

from support.leftovers import pytest_sessionfinish, pytest_sessionstart  # noqa: F401  hooks
from support.testcluster import KubectlFailed, apply, cluster, is_up, kubectl, load_image

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def node() -> Iterator[None]:
    """A running cluster."""
    was_up = is_up()
    if not was_up:
        cluster("up")
    try:
        yield
    finally:
        if not was_up:
            cluster("down")


@pytest.fixture(scope="session")
def image(node: None) -> None:
    """The image of this checkout, at the node."""
    load_image()


@pytest.fixture(scope="module")
def namespace(image: None) -> Iterator[str]:
    """A namespace whose pods must be as Pod Security "restricted" wants them."""
    yield from made("restricted")


@pytest.fixture(scope="module")
def privileged_namespace(image: None) -> Iterator[str]:
    """A namespace whose pods may be as they like."""
    yield from made("privileged")


def made(level: str) -> Iterator[str]:
    name = f"test-{level}-{next(_numbers)}"
    with suppress(KubectlFailed):  # left by an earlier run on a cluster that stayed up
        kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=true")
    labels = {"pod-security.kubernetes.io/enforce": level}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")
