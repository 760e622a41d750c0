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


def test_a_kind_is_found_by_its_name_and_its_styles_and_shares_no_style() -> None:
    assert [kind.name for kind in KINDS.values()] == list(KINDS)
    styles = [style for kind in ALL for style in kind.styles]
    assert len(styles) == len(set(styles)) and all(kind.styles for kind in ALL)
    assert all(kind_of_style(style) is kind for kind in KINDS.values() for style in kind.styles)


def test_a_kind_names_its_zygote_and_node_and_least_memory(kind: Kind) -> None:
    assert kind.zygote in (WARM, BARE) and kind.node == NODE
    assert kind.least_memory >= 2**20
    assert set(kind.templates.values()) <= set(kind.styles)


def test_an_empty_or_missing_folder_fails_the_check(kind: Kind, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(BuildFailed, match=str(folder)):
            kind.check_source(folder, kind.styles[0], ())


def test_a_kind_does_not_recognise_an_empty_template_folder(kind: Kind, tmp_path: Path) -> None:
    assert kind.recognise("", tmp_path, tmp_path) == ""


def test_read_returns_a_start_of_its_own_kind(kind: Kind) -> None:
    spec = FunctionSpec("fn", "image", env_process="x", env_vars={"upstream_url": "inherited"})
    assert kind.read(spec).kind == kind.name


def test_own_process_is_idempotent(kind: Kind) -> None:
    for process in ("", "python index.py", "./server -v"):
        assert kind.own_process(kind.own_process(process)) == kind.own_process(process)


def test_an_ordinary_traceback_gets_no_advice(kind: Kind) -> None:
    assert kind.advice(["Traceback (most recent call last):", "ValueError"]) == ""


def test_the_module_of_a_kind_imports_only_the_model_at_its_top(kind: Kind) -> None:
    tree = ast.parse(Path(inspect.getfile(type(kind))).read_text())
    found = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    found += [name.name for node in tree.body if isinstance(node, ast.Import) for name in node.names]
    others = [name for name in found if name.partition(".")[0] not in sys.stdlib_module_names]
    assert all(name.startswith(("rescoldo.model.", "rescoldo.kinds.")) for name in others), others
