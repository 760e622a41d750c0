"""Images given to clusters by the clusters' own commands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rescoldo.image.loading import LOADERS, LoadFailed, load
from rescoldo.model.errors import InvalidInput

COMMANDS = {
    "kind": "kind load image-archive",
    "k3s": "k3s ctr images import",
    "minikube": "minikube image load",
    "containerd": "ctr --namespace k8s.io images import",
}


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins of the commands, which write what they are told into a file."""
    for name in ("kind", "k3s", "minikube", "ctr"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "$(basename "$0") $*" > {tmp_path}/told\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def test_every_loader_is_tried() -> None:
    assert set(COMMANDS) == set(LOADERS)


@pytest.mark.parametrize("kind", LOADERS)
def test_its_own_command_is_run(programs: Path, kind: str) -> None:
    load(kind, programs / "image.tar")
    assert (programs / "told").read_text() == f"{COMMANDS[kind]} {programs}/image.tar\n"


@pytest.mark.parametrize(("kind", "flag"), [("kind", "--name"), ("minikube", "--profile")])
def test_one_of_several_clusters(programs: Path, kind: str, flag: str) -> None:
    load(kind, programs / "image.tar", "second")
    assert (programs / "told").read_text().endswith(f"image.tar {flag} second\n")


@pytest.mark.parametrize("kind", ["k3s", "containerd"])
def test_a_name_where_there_is_one_cluster(programs: Path, kind: str) -> None:
    with pytest.raises(InvalidInput, match="--cluster is for --load kind and minikube"):
        load(kind, programs / "image.tar", "second")


def test_a_command_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidInput, match="--load kind needs the command kind, which is not on PATH"):
        load("kind", tmp_path / "image.tar")


def test_a_command_that_fails_is_told_with_its_reason(programs: Path) -> None:
    (programs / "kind").write_text("#!/bin/sh\necho 'no nodes found for cluster \"kind\"' >&2; exit 1\n")
    with pytest.raises(LoadFailed, match=r"`kind load image-archive .*` failed: no nodes found"):
        load("kind", programs / "image.tar")
