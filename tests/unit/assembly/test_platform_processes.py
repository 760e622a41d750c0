"""The platform's processes, as the supervisor recorded them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rescoldo.assembly.processes import SupervisedProcesses
from rescoldo.model.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=str(tmp_path), run=str(tmp_path))


def test_running_processes_are_listed_with_their_memory_and_others_are_not(settings: Settings) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    settings.children_file.write_text(json.dumps({"edge": gone.pid, "controller": os.getpid()}))
    [found] = SupervisedProcesses(settings).running()
    assert (found.name, found.pid) == ("controller", os.getpid())
    assert found.memory > 2**20


@pytest.mark.parametrize("text", ["", "{"])
def test_the_list_is_empty_until_the_supervisor_has_recorded_processes(text: str, settings: Settings) -> None:
    if text:
        settings.children_file.write_text(text)
    assert SupervisedProcesses(settings).running() == []
