"""`rescoldo kubernetes image`: what it refuses before it begins."""

from __future__ import annotations

import click
import pytest

from rescoldo.cli.verbs.kubernetes_image import DEFAULT_BASE, image_command
from rescoldo.image.bases import MINOR
from rescoldo.model.errors import InvalidInput


def run(*arguments: str) -> None:
    image_command.main(list(arguments), standalone_mode=False)


def test_it_wants_to_know_where_the_image_goes() -> None:
    with pytest.raises(click.UsageError, match=r"--push .*--load .* or --output"):
        run()


def test_a_digest_cannot_be_chosen() -> None:
    with pytest.raises(click.UsageError, match="pushed under a tag"):
        run("--push", f"ghcr.io/me/a@sha256:{'0' * 64}")


@pytest.mark.parametrize("flag", ["--push", "--name"])
def test_a_name_that_is_none_names_its_flag(flag: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{flag} 'A B' is no name"):
        run(flag, "A B", "--output", "a.tar")


def test_the_default_base_has_the_python_that_compiles_for_it() -> None:
    assert f"docker.io/library/python:{MINOR}-slim" == DEFAULT_BASE
