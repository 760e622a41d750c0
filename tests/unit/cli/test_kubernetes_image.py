"""`rescoldo kubernetes image`: what it refuses before it begins."""

from __future__ import annotations

import click
import pytest

from rescoldo.cli.verbs import kubernetes_image as verb
from rescoldo.cli.verbs.kubernetes_image import DEFAULT_BASE, image_command
from rescoldo.image.bases import MINOR
from rescoldo.image.reference import Reference
from rescoldo.model.errors import InvalidInput, NotFound


def run(*arguments: str) -> None:
    image_command.main(list(arguments), standalone_mode=False)


def test_it_wants_to_know_where_the_image_goes() -> None:
    with pytest.raises(click.UsageError, match=r"--push .*--load .* or --output"):
        run()


def test_a_digest_cannot_be_chosen() -> None:
    with pytest.raises(click.UsageError, match="its digest is made from its content"):
        run("--push", f"ghcr.io/me/a@sha256:{'0' * 64}")


def test_a_cluster_that_cannot_be_loaded_into_is_told_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "assemble", lambda *_: pytest.fail("it began"))
    with pytest.raises(InvalidInput, match="--cluster is for"):
        run("--load", "k3s", "--cluster", "second")


def test_http_without_encryption_is_for_the_registry_of_push(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def registry(name: Reference, flag: str, plain_http: bool) -> None:
        asked.append((name.registry, flag, plain_http))
        raise NotFound

    monkeypatch.setattr(verb, "_registry", registry)
    for base in ("quay.io/a:1", "my.registry:5000/a:1"):
        with pytest.raises(NotFound):
            run("--base", base, "--push", "my.registry:5000/me/rescoldo:1", "--plain-http")
    assert asked == [("quay.io", "--base", False), ("my.registry:5000", "--base", True)]


@pytest.mark.parametrize("flag", ["--push", "--name"])
def test_a_name_that_is_none_names_its_flag(flag: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{flag} 'A B' is no name"):
        run(flag, "A B", "--output", "a.tar")


@pytest.mark.parametrize(
    ("flags", "said"),
    [(("--output", "/no/such/folder/a.tar"), "--output .*: there is no folder /no/such/folder"),
     (("--output", "a.tar", "--base", "A B"), "^--base 'A B' is no name")],
)  # fmt: skip
def test_a_mistake_is_told_before_the_work(monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], said: str) -> None:
    monkeypatch.setattr(verb, "assemble", lambda *_: pytest.fail("it began"))
    with pytest.raises(InvalidInput, match=said):
        run(*flags)


def test_the_default_base_has_the_python_that_compiles_for_it() -> None:
    assert f"docker.io/library/python:{MINOR}-slim" == DEFAULT_BASE
