from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rescoldo.supervisor.platformlog import MAX_LOG, older

pytestmark = pytest.mark.slow
CODE = (
    "import sys; from pathlib import Path; from rescoldo.supervisor.platformlog import bound, say\n"
    "bound(Path(sys.argv[1])); say('and on')"
)


def bounded(log: Path, *, said_to: Path) -> None:
    """Bound `log` in a process whose standard error goes to `said_to`."""
    with said_to.open("ab") as stderr:
        subprocess.run([sys.executable, "-c", CODE, str(log)], stderr=stderr, check=True)


def test_a_long_log_becomes_the_older_half_and_processes_that_have_it_open_continue_writing(tmp_path: Path) -> None:
    log = tmp_path / "platform.log"
    text = b"x" * (MAX_LOG + 1)
    log.write_bytes(text)
    with log.open("ab") as another:
        bounded(log, said_to=log)
        another.write(b"another\n")
    assert older(log).read_bytes() == text
    assert log.read_bytes() == b"and on\nanother\n"


def test_a_short_log_is_only_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "platform.log"
    log.write_bytes(b"x" * 100)
    bounded(log, said_to=log)
    assert log.read_bytes() == b"x" * 100 + b"and on\n"


def test_a_file_to_which_a_user_redirected_our_output_is_left_alone(tmp_path: Path) -> None:
    log, mine = tmp_path / "platform.log", tmp_path / "mine"
    log.write_bytes(b"x" * (MAX_LOG + 1))
    mine.write_bytes(b"y" * (MAX_LOG + 1))
    bounded(log, said_to=mine)
    assert log.stat().st_size == MAX_LOG + 1
    assert mine.stat().st_size > MAX_LOG
