"""Measures an installation on a real Kubernetes and compares the figures with their bars.

    python bench/kubernetes_run.py [--quick] [--only NAME ... [--update]]

Uses the cluster of the tests, and brings it up if it is not (as root; `make cluster` builds it). Makes the image of
this checkout, installs it, measures, and uninstalls it; ends at once if an installation is there. Prints a table and
writes bench/kubernetes.json; the long form also writes the table of docs/measurements.md. `--only` and `--update` are
those of bench/run.py, and so is the exit status.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace

import paths  # first of ours: the rest needs what it makes importable
import table
import tools
from kubernetes_cell import Cell, CellMeasurement
from kubernetes_measurements import ALL
from rows import Row, machine, merged, say, show, write
from run import run
from support.generated import put_between
from support.testcluster import cluster, is_up, kubectl, load_image

RESULTS = paths.BENCH / "kubernetes.json"
BEGIN = "<!-- measured: written by `make bench-kubernetes` -->"
END = "<!-- end of measured on Kubernetes -->"


def main() -> int:
    options = _options()
    chosen = [one for one in ALL if options.only is None or one.name in options.only]
    with _up():
        cell = Cell()
        try:
            rows, worked, about = _measured(cell, chosen, options.quick)
        finally:
            cell.close()
    show(rows)
    if options.only is None or options.update:
        if options.only is not None and RESULTS.exists():
            rows = merged(table.report(RESULTS)[1], rows, [bar.name for one in ALL for bar in one.bars])
        write(RESULTS, about, rows)
        if not options.quick:
            _document(about, rows)
    return int(not worked)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure an installation on a real Kubernetes.")
    names = [one.name for one in ALL]
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument(
        "--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}; may be repeated"
    )
    parser.add_argument("--update", action="store_true", help="with --only: merge the figures into the last report")
    options = parser.parse_args()
    if options.update and (options.quick or options.only is None):
        parser.error("--update is for the long form of some measurements: it needs --only, and no --quick")
    return options


@contextmanager
def _up() -> Iterator[None]:
    """Have the cluster up; one that was not is taken down at the end."""
    was_up = is_up()
    if not was_up:
        say("bringing up the cluster")
        cluster("up")
    try:
        yield
    finally:
        if not was_up:
            cluster("down")


def _measured(
    cell: Cell, chosen: Sequence[CellMeasurement], quick: bool
) -> tuple[list[Row], bool, dict[str, str | int]]:
    """Install, measure, uninstall. Return the rows, whether all measurements succeeded, and the machine."""
    if kubectl("get", "namespace", cell.system_namespace, "--ignore-not-found"):
        # it would be changed, and removed at the end
        raise SystemExit(f"the namespace {cell.system_namespace} exists: uninstall what is there first")
    measurements = [one.on(cell) for one in chosen]
    lacking = tools.provide(measurements)
    say("making the image")
    load_image()
    about = {**machine(quick=quick), "kubernetes": _version()}
    say("installing")
    cell.set_up()
    try:
        results = [run(one, quick, lacking[one.name]) for one in measurements]
    finally:
        say("uninstalling")
        cell.verb("uninstall", "--yes")
    rows = [replace(row, date=str(about["date"])) for found, _ in results for row in found]
    return rows, all(worked for _, worked in results), about


def _version() -> str:
    """The version of the node's kubelet."""
    return kubectl("get", "nodes", "-o", "jsonpath={.items[0].status.nodeInfo.kubeletVersion}")


def _document(about: dict[str, str | int], rows: Sequence[Row]) -> None:
    text = table.text_of(about, [asdict(row) for row in rows], f"bench/{RESULTS.name}")
    table.DOCUMENT.write_text(put_between(table.DOCUMENT.read_text(), BEGIN, END, f"\n{text}"))


if __name__ == "__main__":
    sys.exit(main())
