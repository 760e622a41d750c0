from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from matrix import clustered
from matrix.clustered import BEGIN, END, ClusterFault


def test_a_run_is_written_into_the_document_with_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    author = ["-c", "user.name=x", "-c", "user.email=x@x"]
    for command in (["init", "-q"], [*author, "commit", "-q", "--allow-empty", "-mx"]):
        subprocess.run(["git", *command], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    clustered.DOCUMENT.parent.mkdir()
    clustered.DOCUMENT.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    clustered.write([ClusterFault("a worker is killed", 100, 10, 2, 0.0123)])
    clustered.main()
    text = clustered.DOCUMENT.read_text()
    assert "\nold\n" not in text
    assert "| a worker is killed | 100 | 10 | 2 | 12 ms |\n" in text
    assert f"commit {head[:7]}" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
