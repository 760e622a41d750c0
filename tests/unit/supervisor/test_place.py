"""The folders of a platform, before it starts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rescoldo.model.errors import InvalidInput
from rescoldo.model.settings import Settings
from rescoldo.supervisor import place


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="rp-") as run:  # short, for the paths of sockets
        yield Settings(str(tmp_path / "data"), f"{run}/run")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("folder", ["one", "layers/two"])
def test_a_data_directory_with_groups_that_no_user_namespace_names_is_refused(settings: Settings, folder: str) -> None:
    place.prepare(settings).close()
    bundle = settings.bundles / folder
    bundle.mkdir(parents=True)
    os.chown(bundle, 0, 30_000)
    place.prepare(settings).close()  # the controller gives it another group
    os.chown(bundle, 0, place.UNMAPPED)
    with pytest.raises(InvalidInput, match="groups that do not exist in this user namespace"):
        place.prepare(settings)
