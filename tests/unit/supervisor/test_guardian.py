"""The guardian with small programs in place of the supervisor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rescoldo.supervisor import guardian
from rescoldo.supervisor.guardian import DRAINING, KEPT, pause

pytestmark = pytest.mark.slow

# counts its starts in a file, and talks to the guardian as HeldDescriptors does
PREAMBLE = """
import array, json, os, signal, socket, sys, time
count = int(open(sys.argv[1]).read() or 0) + 1
open(sys.argv[1], "w").write(str(count))
control = socket.socket(fileno=int(os.environ["RESCOLDO_CONTROL_FD"]))
kept = json.loads(os.environ["RESCOLDO_KEPT"])
def say(order, *numbers):
    socket.send_fds(control, [json.dumps(order).encode()], numbers)
    control.recv(10)  # it has taken it
"""


class Guarded:
    """A guardian of a small program that counts its starts."""

    def __init__(self, folder: Path, code: str, ticks: int = 60, kept: dict[str, list[int]] | None = None) -> None:
        self._count = folder / "count"
        self._count.write_text("")
        descriptors = kept or {}
        self.process = subprocess.Popen(
            [
                sys.executable, "-IS", guardian.__file__, str(ticks),
                sys.executable, "-IS", "-c", PREAMBLE + code, str(self._count),
            ],
            env={**os.environ, KEPT: json.dumps(descriptors)},
            pass_fds=[number for numbers in descriptors.values() for number in numbers],
            stderr=subprocess.PIPE,
        )  # fmt: skip

    def wait(self) -> tuple[int, int, str]:
        """Wait for the end; return exit status, number of starts, and the text of standard error."""
        _, said = self.process.communicate(timeout=20)
        return self.process.returncode, self.starts, said.decode()

    def until_started(self) -> None:
        """Wait until the program runs: from then on the guardian handles signals."""
        deadline = time.monotonic() + 10
        while not self.starts:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    @property
    def starts(self) -> int:
        return int(self._count.read_text() or 0)


def test_successive_early_deaths_delay_the_next_start() -> None:
    assert [pause(deaths) for deaths in (0, 1, 2, 3, 4, 50)] == [0.0, 0.0, 0.05, 0.1, 0.2, 2.0]


@pytest.mark.parametrize("last", [0, os.EX_CONFIG])
def test_a_program_that_dies_is_restarted_until_it_ends_on_purpose(tmp_path: Path, last: int) -> None:
    code = f"say({{}})\nif count == 1: os.kill(os.getpid(), signal.SIGKILL)\nsys.exit({last} if count == 3 else 1)"
    status, starts, said = Guarded(tmp_path, code).wait()
    assert (status, starts) == (last, 3)
    assert "signal 9" in said
    assert "exit status 1" in said


def test_a_program_that_never_reports_is_given_up(tmp_path: Path) -> None:
    status, starts, _ = Guarded(tmp_path, "sys.exit(3)").wait()
    assert (status, starts) == (3, 5)


def test_a_program_is_not_given_up_while_the_guardian_holds_descriptors(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    try:
        guarded = Guarded(tmp_path, "sys.exit(0 if count == 7 else 3)", kept={"edge:1": [reading]})
        assert guarded.wait()[:2] == (0, 7)
    finally:
        os.close(reading)
        os.close(writing)


def test_descriptors_are_kept_for_the_next_process_until_dropped(tmp_path: Path) -> None:
    code = """
if count == 1:
    reading, writing = os.pipe()
    os.write(writing, b"from the first")
    say({"keep": "pipe:1"}, reading)
    say({"keep": "other:1"}, reading, writing)
    sys.exit(1)
assert list(kept) == (["pipe:1", "other:1"] if count == 2 else ["pipe:1"]), kept
if count == 2:
    say({"drop": ["other:1"]})
    sys.exit(1)
assert os.read(kept["pipe:1"][0], 100) == b"from the first"
assert os.read(kept["pipe:1"][0], 100) == b"", "its writing end is closed"
sys.exit(0)
"""
    status, starts, said = Guarded(tmp_path, code).wait()
    assert (status, starts) == (0, 3), said


def test_a_program_that_stops_reporting_is_killed(tmp_path: Path) -> None:
    code = "say({})\nif count == 1: time.sleep(600)\nsys.exit(0)"
    status, starts, said = Guarded(tmp_path, code, ticks=1).wait()
    assert (status, starts) == (0, 2)
    assert "did not report" in said


# drains when SIGTERM comes, until SIGINT does; writes each signal as a line of its standard error
DRAINS = f"""
signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGTERM, signal.SIGINT}})
say({{}})
while True:
    number = signal.sigwait({{signal.SIGTERM, signal.SIGINT}})
    print(count, number.name, file=sys.stderr, flush=True)
    if number == signal.SIGINT:
        sys.exit(0)
    if "{DRAINING}" not in kept:
        say({{"keep": "{DRAINING}"}}, os.memfd_create("moment"))
    if count == 1:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_second_signal_ends_the_draining_also_of_the_next_process(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, DRAINS)
    guarded.until_started()
    assert guarded.process.stderr is not None
    guarded.process.send_signal(signal.SIGTERM)
    said = b""
    while b"2 SIGTERM" not in said:
        line = guarded.process.stderr.readline()
        assert line, said
        said += line
    guarded.process.send_signal(signal.SIGTERM)
    status, starts, rest = guarded.wait()
    assert (status, starts) == (0, 2)
    assert [line for line in (said.decode() + rest).splitlines() if "SIG" in line] == [
        "1 SIGTERM", "2 SIGTERM", "2 SIGINT",
    ]  # fmt: skip


def test_a_guardian_of_a_draining_platform_passes_its_first_signal_on_as_the_second(tmp_path: Path) -> None:
    moment = os.memfd_create("moment")
    try:
        guarded = Guarded(tmp_path, DRAINS.replace("count == 1", "False"), kept={DRAINING: [moment]})
        guarded.until_started()
        guarded.process.send_signal(signal.SIGTERM)
        status, _, said = guarded.wait()
    finally:
        os.close(moment)
    assert status == 0
    assert said.splitlines()[-1].endswith("SIGINT")


def test_sigterm_is_passed_on_to_the_next_process_if_the_first_dies_of_it(tmp_path: Path) -> None:
    # blocked: a SIGTERM that comes between the message and the wait must end the wait
    code = """
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
say({})
signal.sigwait({signal.SIGTERM})
sys.exit(0) if count == 2 else os.kill(os.getpid(), signal.SIGKILL)
"""
    guarded = Guarded(tmp_path, code)
    guarded.until_started()
    guarded.process.send_signal(signal.SIGTERM)
    assert guarded.wait()[:2] == (0, 2)
