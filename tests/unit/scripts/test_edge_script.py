"""scripts/edge.py, which queries a running edge."""

from __future__ import annotations

import runpy
import socket
import threading
from pathlib import Path

import pytest

from rescoldo.cli.platform import local_settings

SCRIPT = Path(__file__).parents[3] / "scripts" / "edge.py"


def run(*words: str) -> int:
    found = runpy.run_path(str(SCRIPT))["main"](list(words))
    assert isinstance(found, int)
    return found


@pytest.fixture
def edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Save the settings of a platform; return the path of its admin socket, which does not exist yet."""
    monkeypatch.setenv("RESCOLDO_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("rescoldo.cli.platform.run_dir_for", lambda data: tmp_path / "run")
    settings = local_settings(None)
    (tmp_path / "data").mkdir()
    (tmp_path / "run" / "edge").mkdir(parents=True)
    settings.save(settings.record)
    return Path(settings.admin_socket)


def test_a_command_is_sent_with_the_paths_of_its_maps(edge: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            asked.append(connection.recv(4096).decode())
            connection.sendall(b"greet.openfaas-fn s5\n\n")

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(edge))
        listener.listen()
        answering = threading.Thread(target=answer)
        answering.start()
        assert run("show", "map", "routes.map") == 0
        answering.join()
    assert asked == [f"show map {edge.parent}/routes.map\n"]
    assert capsys.readouterr().out == "greet.openfaas-fn s5\n"


def test_an_edge_that_does_not_answer_is_named(edge: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "info") == 1
    assert str(edge) in capsys.readouterr().err


def test_without_a_command_the_script_prints_its_usage(edge: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert "show servers state" in capsys.readouterr().err
