"""A new kind is one module and its registration: a toy is built, deployed and run without another change."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import rescoldo
from rescoldo.bundle.build import BuildRequest, BuiltBundle, build
from rescoldo.bundle.unpack import check_manifest, unpack
from rescoldo.kinds.deployment import check_spec, notes_of
from rescoldo.kinds.registry import KINDS
from rescoldo.model.errors import BuildFailed, InvalidInput
from rescoldo.model.function import FunctionSpec
from rescoldo.stack.templates import find_template
from support import constant_kind
from support.constant_kind import ConstantKind
from support.real_node import RealNode, call

SOURCE = Path(rescoldo.__file__).parent
LINE = "    ProcessKind(),\n"  # a line of the registry, after which another kind is added


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, ConstantKind.name, ConstantKind())


def built(folder: Path) -> BuiltBundle:
    request = BuildRequest("fn", "constant", "constant", folder / "fn", folder)
    return build(request, folder / "out", lambda _: None, lambda *_: 1)


@pytest.fixture
def project(tmp_path: Path, registered: None) -> Path:
    (tmp_path / "fn").mkdir()
    (tmp_path / "fn" / "answer.txt").write_text("forty-two\n")
    return tmp_path


@pytest.fixture
def bundle(project: Path) -> Path:
    """The toy's bundle, unpacked."""
    place = project / "unpacked"
    place.mkdir()
    with built(project).path.open("rb") as archive:
        unpack(archive, place)
    return place


def test_the_source_of_a_toy_is_checked_before_its_build(project: Path) -> None:
    (project / "fn" / "answer.txt").unlink()
    with pytest.raises(BuildFailed, match=r"no answer\.txt in it"):
        built(project)


def test_the_bundle_of_a_toy_names_its_kind_and_is_accepted(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert (manifest["kind"], manifest["style"], manifest["python"]) == ("constant", "constant", "")
    check_manifest(bundle)
    monkeypatch.delitem(KINDS, "constant")
    with pytest.raises(InvalidInput, match="this rescoldo runs kinds 'python' and 'process'"):
        check_manifest(bundle)


def test_the_template_of_a_toy_names_its_kind(registered: None, tmp_path: Path) -> None:
    folder = tmp_path / "template" / "constant"
    (folder / "function").mkdir(parents=True)
    (folder / "template.yml").write_text("language: constant\nrescoldo:\n  kind: constant\n")
    assert find_template("constant", tmp_path).style == "constant"


def test_a_deployment_has_the_kind_of_its_bundle_unless_it_names_another(registered: None) -> None:
    spec = FunctionSpec("fn", "image", env_process="./server")
    assert check_spec(spec, held="constant").start.kind == "constant"
    program = FunctionSpec("fn", "image", env_process="./server", env_vars={"upstream_url": "inherited"})
    assert check_spec(program, held="constant").start.kind == "process"
    assert notes_of(spec, "full", "constant") == ["fprocess: is not run: the answer is a constant"]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[RealNode]:
    """A node of a rescoldo with the kind: the source, the kind's module and its registration."""
    copy = tmp_path / "src" / "rescoldo"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(constant_kind.__file__, copy / "kinds" / "constant.py")
    registry = copy / "kinds" / "registry.py"
    text = registry.read_text()
    assert text.count(LINE) == 1
    text = text.replace(LINE, f"{LINE}    ConstantKind(),\n")
    first = "from rescoldo.kinds.process import"
    registry.write_text(text.replace(first, f"from rescoldo.kinds.constant import ConstantKind\n{first}"))
    real = RealNode(lambda _, command: ["env", f"PYTHONPATH={copy.parent}", *command])
    try:
        await real.boot()
        yield real
    finally:
        await real.close()


@pytest.mark.slow
async def test_a_node_forks_a_toy_from_its_spares(node: RealNode, bundle: Path) -> None:
    launch = node.launch_of(bundle, "constant")
    running = await node.client.start(launch)
    assert [await call(running) for _ in range(3)] == ["forty-two\n"] * 3
    assert [one.launch.kind for one in await node.client.instances()] == ["constant"]
    await node.client.stop(launch.instance)
    assert await node.client.instances() == []
