"""The file that `docker load` and `ctr images import` take."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from rescoldo.image.archive import write_image
from rescoldo.image.assembly import put_together
from rescoldo.image.bases import Base
from rescoldo.image.blobs import Image
from rescoldo.image.layers import Entry, write_layer

NAME = "docker.io/library/rescoldo:1"


@pytest.fixture
def image(tmp_path: Path) -> Image:
    below = write_layer([Entry("etc/passwd", b"root:x:0:0")], tmp_path / "below")
    config = {"Env": ["PATH=/usr/bin", "PYTHON_VERSION=3.11"], "Cmd": ["python3"], "Labels": {"theirs": "1"}}
    base = Base("docker.io/library/python:3", f"sha256:{'a' * 64}", (below,), config, ({"created_by": "theirs"},))
    return put_together(base, write_layer([Entry("usr/a", b"a")], tmp_path / "above"), "amd64")


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_its_blobs_are_named_by_their_digests(image: Image, tmp_path: Path) -> None:
    write_image(image, NAME, tmp_path / "image.tar")
    blobs = {name: data for name, data in contents(tmp_path / "image.tar").items() if name.startswith("blobs/")}
    assert len(blobs) == 4
    assert [name for name, data in blobs.items() if name != f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"] == []


def test_both_forms_lead_to_the_same_image(image: Image, tmp_path: Path) -> None:
    write_image(image, NAME, tmp_path / "image.tar")
    found = contents(tmp_path / "image.tar")
    entry = json.loads(found["index.json"])["manifests"][0]
    assert entry["digest"] == image.manifest.digest
    assert entry["annotations"]["io.containerd.image.name"] == NAME
    manifest = json.loads(found[f"blobs/{entry['digest'].replace(':', '/')}"])
    docker = json.loads(found["manifest.json"])[0]
    assert docker["RepoTags"] == [NAME]
    assert docker["Config"] == f"blobs/{manifest['config']['digest'].replace(':', '/')}"
    assert docker["Layers"] == [f"blobs/{one['digest'].replace(':', '/')}" for one in manifest["layers"]]


def test_the_same_image_gives_the_same_file(image: Image, tmp_path: Path) -> None:
    for name in ("1", "2"):
        write_image(image, NAME, tmp_path / name)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_its_configuration_goes_on_from_the_base_s(image: Image) -> None:
    config = json.loads(b"".join(image.config.read()))
    assert config["rootfs"]["diff_ids"] == [layer.diff_id for layer in image.layers]
    assert [one["created_by"].partition(" ")[0] for one in config["history"]] == ["theirs", "rescoldo"]
    inner = config["config"]
    assert inner["Env"] == ["PATH=/usr/bin", "PYTHON_VERSION=3.11"]
    assert (inner["User"], inner["Entrypoint"], inner["Cmd"]) == ("10001:0", ["rescoldo"], [])
    assert inner["Labels"]["theirs"] == "1" and inner["Labels"]["org.opencontainers.image.title"] == "rescoldo"
    named = json.loads(b"".join(image.manifest.read()))["annotations"]
    assert named["org.opencontainers.image.base.digest"] == f"sha256:{'a' * 64}"


def test_a_file_that_cannot_be_written_whole_is_not_there(image: Image, tmp_path: Path) -> None:
    (tmp_path / "above").unlink()
    with pytest.raises(FileNotFoundError):
        write_image(image, NAME, tmp_path / "image.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["below"]
