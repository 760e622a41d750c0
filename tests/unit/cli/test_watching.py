"""Which function a file belongs to, and which saves are noticed."""

from pathlib import Path

import pytest

from rescoldo.cli.flags import Selection
from rescoldo.cli.project import Project, load_project
from rescoldo.cli.watching import Saved, saves

pytestmark = pytest.mark.slow


@pytest.fixture
def project() -> Project:
    for name in ("a", "b", "common", "build", "docs"):
        Path(name).mkdir()
    Path("stack.yaml").write_text(
        "provider: {name: openfaas}\nfunctions:\n"
        "  a: {lang: python3, handler: ./a}\n  b: {lang: python3, handler: ./b}\n"
        "configuration: {copy: [./common]}\n"
    )
    return load_project(Selection())


def whose(project: Project, *names: str) -> list[str]:
    saved = Saved(frozenset(Path(name).resolve() for name in names), 0.0)
    return [function.name for function in saved.functions(project)]


def test_a_file_belongs_to_the_function_whose_folder_holds_it(project):
    assert whose(project, "a/handler.py") == ["a"]
    assert whose(project, "a/deep/er.py", "b/x") == ["a", "b"]
    assert whose(project, "docs/x.py", "stack.yaml", "ab/x.py") == []


def test_a_file_that_is_copied_into_all_functions_belongs_to_all(project):
    assert whose(project, "common/lib.py") == ["a", "b"]


def test_saves_are_noticed_from_the_first_tick_on_except_those_of_a_build(project):
    events = saves(project, Path())
    assert next(events) is None
    Path("build/x.py").write_text("built")
    Path("docs/page.md").write_text("nobody's")
    Path("a/handler.py.swp").write_text("an editor's")
    Path("a/handler.py").write_text("mine")
    saved = next(found for found in events if found is not None)
    assert saved.paths == {Path("a/handler.py").resolve()} and not saved.stack
    assert saved.at == pytest.approx(Path("a/handler.py").stat().st_mtime)

    # as editors do: another file takes the name
    Path("stack.new").write_text(Path("stack.yaml").read_text())
    Path("stack.new").replace("stack.yaml")
    assert next(found for found in events if found is not None).stack
    events.close()


def test_a_handler_outside_the_project_is_watched_too(project, tmp_path):
    far = tmp_path / "far"
    far.mkdir()
    stack = Path("stack.yaml").read_text().replace("./b", str(far))
    Path("stack.yaml").write_text(stack)
    events = saves(load_project(Selection()), Path())
    next(events)
    (far / "handler.py").write_text("x")
    assert next(found for found in events if found is not None).paths == {far / "handler.py"}
    events.close()
