"""The report of an installation on Kubernetes."""

from pathlib import Path

import pytest

import kubernetes_node
import kubernetes_run
import table
from kubernetes_cell import Cell, spread
from kubernetes_measurements import ALL
from rows import Bar, MeasurementFailed, Row

BARS = [bar for one in ALL for bar in one.bars]


def test_each_figure_has_a_name_of_its_own():
    assert len({bar.name for bar in BARS}) == len(BARS)
    assert len({one.name for one in ALL}) == len(ALL)


def test_a_measurement_measures_the_installation_that_it_is_given():
    cell = Cell()
    try:
        measured = ALL[0].on(cell)
    finally:
        cell.close()
    assert (measured.name, measured.bars, measured.needs) == (ALL[0].name, ALL[0].bars, ALL[0].needs)


def test_the_document_has_the_figures_between_its_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    document = tmp_path / "measurements.md"
    document.write_text(f"before\n{kubernetes_run.BEGIN}\nold\n{kubernetes_run.END}\nafter\n")
    monkeypatch.setattr(table, "DOCUMENT", document)
    about = {"form": "long", "cores": 2, "cpu": "X", "kernel": "6", "python": "3", "haproxy": "2.8", "load": "0"}
    rows = [Bar("time", "ms", most=5).row(4, "how"), Row("other", None, "", None, None, "failed")]
    kubernetes_run._document(about, rows)
    text = document.read_text()
    assert text.startswith("before\n") and text.endswith("after\n")
    assert "old" not in text
    assert "| time | 4 ms | ≤ 5 | yes |  |" in text
    assert "`bench/kubernetes.json`" in text


def test_a_pod_that_is_not_on_this_machine_cannot_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    group = tmp_path / "rescoldo-kubernetes/kubepods/burstable/podabc/container"
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text("11\n12\n")
    monkeypatch.setattr(kubernetes_node, "HIERARCHIES", (tmp_path / "none", tmp_path))
    found = kubernetes_node.folder_of({"metadata": {"name": "a", "uid": "abc"}})
    assert kubernetes_node.processes([found]) == [11, 12]
    with pytest.raises(MeasurementFailed, match="pod b has no cgroup"):
        kubernetes_node.folder_of({"metadata": {"name": "b", "uid": "xyz"}})


def test_a_spread_is_the_least_and_the_greatest():
    assert spread([2.04, 1.26, 3.0]) == "1.3 to 3.0"


def test_an_installation_that_is_there_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kubernetes_run, "kubectl", lambda *arguments: f"{arguments[2]} Active 5m\n")
    cell = Cell()
    try:
        with pytest.raises(SystemExit, match="namespace rescoldo exists"):
            kubernetes_run._measured(cell, [], quick=True)
    finally:
        cell.close()
