"""What every kind of function promises."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

import pytest

from rescoldo.kinds.protocol import BARE, NODE, WARM, Kind
from rescoldo.kinds.registry import KINDS, kind_of_style
from rescoldo.model.errors import BuildFailed
from rescoldo.model.function import FunctionSpec
from support.constant_kind import ConstantKind

ALL: list[Kind] = [*KINDS.values(), ConstantKind()]


@pytest.fixture(params=ALL, ids=lambda kind: str(kind.name))
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


def test_each_is_found_by_its_name_and_by_its_styles_which_are_its_own() -> None:
    assert [kind.name for kind in KINDS.values()] == list(KINDS)
    styles = [style for kind in ALL for style in kind.styles]
    assert len(styles) == len(set(styles)) and all(kind.styles for kind in ALL)
    assert all(kind_of_style(style) is kind for kind in KINDS.values() for style in kind.styles)


def test_it_says_where_its_instances_come_from_and_what_they_need(kind: Kind) -> None:
    assert kind.zygote in (WARM, BARE) and kind.node == NODE
    assert kind.least_memory >= 2**20
    assert set(kind.templates.values()) <= set(kind.styles)


def test_a_folder_that_is_empty_or_not_there_holds_none(kind: Kind, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(BuildFailed, match=str(folder)):
            kind.check_source(folder, kind.styles[0], ())


def test_a_folder_of_a_template_that_has_nothing_of_it_is_not_its_own(kind: Kind, tmp_path: Path) -> None:
    assert kind.recognise("", tmp_path, tmp_path) == ""


def test_a_start_is_of_its_own_kind(kind: Kind) -> None:
    spec = FunctionSpec("fn", "image", env_process="x", env_vars={"upstream_url": "inherited"})
    assert kind.read(spec).kind == kind.name


def test_what_a_deployment_says_once_more_means_the_same(kind: Kind) -> None:
    for process in ("", "python index.py", "./server -v"):
        assert kind.own_process(kind.own_process(process)) == kind.own_process(process)


def test_an_end_that_says_nothing_is_no_reason_for_advice(kind: Kind) -> None:
    assert kind.advice(["Traceback (most recent call last):", "ValueError"]) == ""


def test_its_module_imports_the_model_alone_at_its_top(kind: Kind) -> None:
    tree = ast.parse(Path(inspect.getfile(type(kind))).read_text())
    found = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    found += [name.name for node in tree.body if isinstance(node, ast.Import) for name in node.names]
    others = [name for name in found if name.partition(".")[0] not in sys.stdlib_module_names]
    assert all(name.startswith(("rescoldo.model.", "rescoldo.kinds.")) for name in others), others
