"""The measured figures in the documents."""

import json

import pytest

import table
from rows import Row, merged

ABOUT = {
    "form": "long", "date": "2026-03-01T10:11:12+00:00", "cores": 2, "cpu": "X", "kernel": "6.1", "python": "3.11",
    "haproxy": "2.8", "load": "0.10",
}  # fmt: skip


def row(**changes: object) -> dict[str, object]:
    return {"name": "time", "value": 1234.5, "unit": "ms", "bar": "≤ 5", "met": False, "reference": "r", "date": "",
            **changes}  # fmt: skip


def test_each_figure_is_a_row_with_its_bar():
    dated = row(date="2026-03-01T10:11:12+00:00")
    rows = [dated, row(value=None), row(value=3, unit="", met=True), row(bar=None, met=None)]
    assert table.text_of(ABOUT, rows).splitlines()[-4:] == [
        "| time | 1,234.5 ms | ≤ 5 | **no** | 2026-03-01 10:11 |",
        "| time | not measured | ≤ 5 | **no** |  |",
        "| time | 3 | ≤ 5 | yes |  |",
        "| time | 1,234.5 ms |  |  |  |",
    ]


def test_figures_of_a_partial_run_replace_theirs_and_keep_the_others():
    before = [Row(name, 1, "", None, None, "before") for name in ("a", "b", "gone")]
    part = [Row(name, 2, "", None, None, "now") for name in ("c", "b")]
    both = merged(before, part, ["a", "b", "c", "d"])
    assert [(found.name, found.value) for found in both] == [("a", 1), ("b", 2), ("c", 2)]


def test_the_text_around_the_table_stays():
    text = f"before {table.BEGIN} old {table.END} after"
    assert table.replaced(text, "new\n") == f"before {table.BEGIN}\nnew\n{table.END} after"


def test_a_document_without_the_comments_is_refused():
    with pytest.raises(ValueError, match="lacks"):
        table.replaced("nothing", "new")


def test_the_document_has_the_figures_of_the_last_long_run():
    report = json.loads(table.RESULTS.read_text())
    if report["machine"]["form"] != "long":
        pytest.skip("the last run was a quick one, which leaves the document as it is")
    assert table.text_of(report["machine"], report["results"]) in table.DOCUMENT.read_text()
