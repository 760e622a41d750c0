from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from matrix import report
from matrix.background import FaultResult
from matrix.cells import CELLS, SHARING_CELLS, Cell, Result
from matrix.cells import CHANGING_CELLS as NUMBER_CELLS
from matrix.neighbours import NeighbourResult, Seen

CHANGING_CELLS = NUMBER_CELLS + SHARING_CELLS
DOCUMENT = """before
<!-- the kill matrix: written by `make kill-matrix` -->
old
<!-- end of the kill matrix -->
<!-- the kill matrix with changing numbers: written by `make kill-matrix` -->
<!-- end of the kill matrix with changing numbers -->
between
<!-- other faults: written by `make kill-matrix` -->
<!-- end of other faults -->
<!-- neighbours: written by `make kill-matrix` -->
<!-- end of neighbours -->
after
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    report.DOCUMENT.write_text(DOCUMENT)
    return tmp_path


def results(cells: Sequence[Cell] = CELLS, true_after: float | None = None) -> list[Result]:
    return [
        Result(
            cell.target.name, cell.fault, cell.load, 100, 1, 0, 0, None if number else 0.0123, 1.5, (), true_after
        )
        for number, cell in enumerate(cells)
    ]


def test_a_complete_run_is_written_into_the_document_between_its_marks(files: Path) -> None:
    report.write(results())
    report.write_changing(results(CHANGING_CELLS, 2.5))
    report.write_faults([FaultResult("the disk is full", "deployments: 500", 300, 0, 0.02, 0.1)])
    seen = Seen(200, 1, 0.0021, 0.0304, 0.5)
    report.write_neighbours([NeighbourResult("a crash", "502", seen, seen, 0.25, 3 * 2**20, 6)])
    assert report.main() == 0
    text = report.DOCUMENT.read_text()
    assert "\nold\n" not in text
    assert f"| {CELLS[0].target.name} | {CELLS[0].load} | 100 | 1 | 0 | 12 ms | 1.50 s |\n" in text
    first = CHANGING_CELLS[0]
    assert f"| {first.target.name} | {first.load} | 100 | 1 | 0 | 12 ms | 1.50 s | 2.50 s |\n" in text
    assert "| the disk is full | deployments: 500 | 300 | 0 | 20 ms | after 0.10 s |" in text
    figures = "200 | 1 | 2.1 ms | 30.4 ms | 500.0 ms"
    assert f"| a crash | 502 | {figures} | {figures} | 0.25 | +3.0 MiB | 6 |" in text
    assert text.count("| 1.50 s |") == len(CELLS) + len(CHANGING_CELLS)
    assert [text.index(word) for word in ("before", "between", "after\n")] == sorted(
        text.index(word) for word in ("before", "between", "after\n")
    )


def test_a_repeated_cell_keeps_its_place(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report.write(results())
    before = json.loads(report.FILE.read_text())
    monkeypatch.setenv(report.REPEATED, "1")
    again = replace(results([CELLS[3]])[0], requests=777)
    report.write([again])
    after = json.loads(report.FILE.read_text())
    assert [row["requests"] for row in after] == [777 if number == 3 else 100 for number in range(len(before))]
    monkeypatch.delenv(report.REPEATED)
    report.write([again])
    assert len(json.loads(report.FILE.read_text())) == 1


@pytest.mark.parametrize(("cells", "changing"), [(CELLS[1:], CHANGING_CELLS), (CELLS, CHANGING_CELLS[1:])])
def test_a_partial_run_leaves_the_document_unchanged(
    files: Path, capsys: pytest.CaptureFixture[str], cells: Sequence[Cell], changing: Sequence[Cell]
) -> None:
    report.write(results(cells))
    report.write_changing(results(changing))
    report.write_faults([])
    assert report.main() == 1
    assert report.DOCUMENT.read_text() == DOCUMENT
    made, of = (len(cells), len(CELLS)) if cells != CELLS else (len(changing), len(CHANGING_CELLS))
    assert f"{made} of {of} cells" in capsys.readouterr().err


def test_a_document_without_the_marks_is_named(files: Path) -> None:
    with pytest.raises(ValueError, match="the document lacks"):
        report.replaced("nothing", "the kill matrix", "table")


def test_failures_are_written_into_the_file(files: Path) -> None:
    failed = Result("edge", "SIGKILL", "at rest", 6, 0, 1, 1, None, 0.1, ("warm GET /function/warm-0: 503",))
    report.write([failed])
    assert json.loads(report.FILE.read_text()) == [{**asdict(failed), "failures": list(failed.failures)}]
