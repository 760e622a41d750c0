"""The image that `rescoldo kubernetes image` makes of this checkout, with all its packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.testcluster import cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # it assembles twice, beside other tests

BEFORE = 150 * 2**20  # bytes; the image of issue 10's first prototype had 125 MiB


def test_made_again_it_has_the_same_digest(image: dict[str, Any], tmp_path: Path) -> None:
    flags = ["--base", "machine", "--name", image["image"], "--output", tmp_path / "a.tar"]
    command = [sys.executable, "-m", "rescoldo.cli", "kubernetes", "image", *flags]
    subprocess.run(command, check=True, capture_output=True)
    names = subprocess.run(["tar", "-tf", tmp_path / "a.tar"], check=True, capture_output=True, text=True).stdout
    assert f"blobs/{image['digest'].replace(':', '/')}\n" in names


def test_the_node_has_it_under_its_name_and_digest(image: dict[str, Any]) -> None:
    listed = cluster("ctr", "--namespace", "k8s.io", "images", "list", f"name=={image['image']}")
    assert image["digest"] in listed
    assert image["bytes"] < BEFORE
