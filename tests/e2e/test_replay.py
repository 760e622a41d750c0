"""`rescoldo replay --live`: a small trace on a whole platform, which leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rescoldo.replay.outcome import Setting
from rescoldo.replay.simulate import simulate
from rescoldo.replay.trace import DURATIONS, read_trace
from support.gateway import PATIENCE
from support.live import SOURCE, Live

pytestmark = pytest.mark.slow

# the first function is called all the time, the second three times in the first half, the third never
INVOCATIONS = "HashFunction,0,1\naaaa,60,60\nbbbb,3,0\ncccc,0,0\n"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    (tmp_path / "invocations.csv").write_text(INVOCATIONS)
    rows = "\n".join(f"{key},100,100,200,300,400,500,1000" for key in ("aaaa", "bbbb", "cccc"))
    (tmp_path / "durations.csv").write_text(f"HashFunction,{','.join(DURATIONS)}\n{rows}\n")
    (tmp_path / "memory.csv").write_text("HashFunction,AverageAllocatedMb\naaaa,100\nbbbb,100\ncccc,100\n")
    return tmp_path


def replay(live: Live, *words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rescoldo.cli", "replay", "--live", "-g", f"http://127.0.0.1:{live.port}",
         *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "RESCOLDO_DATA": live.settings.data},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def left_over(live: Live) -> list[str]:
    """Return the namespaces of replays that still exist."""
    found = json.loads(live.system("GET", "/namespaces").text)
    return [name for name in found if name.startswith("replay-")]


def test_a_live_replay_confirms_the_simulation_and_leaves_nothing(platform: Live, trace: Path) -> None:
    process = replay(platform, trace, "--speed", 20, "--window", "10s", "--json")
    out, err = process.communicate(timeout=PATIENCE + 30)
    assert process.returncode == 0, err
    found = json.loads(out)
    (live,) = found["settings"]
    (simulated,) = simulate(read_trace(trace), [Setting(window=10.0)])
    assert (live["failed_calls"], live["calls"]) == (0, 123), err
    assert (found["live"], found["speed"]) == (True, 20.0)
    # one wake of the first function and up to three of the second; calls during a wake are cold too
    assert simulated.cold <= live["cold_calls"] <= simulated.cold + 4
    # one function sleeps in between, one never wakes: less than two of three; at a speed of 20 a platform's tenths of
    # a second at each sleep are seconds of the trace
    assert simulated.warm_share - 1 <= live["warm_percent_of_always_on"] <= simulated.warm_share + 15
    assert live["added_seconds"]["p50"] < 0.1
    assert left_over(platform) == []
    assert "Removing namespace replay-" in err


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_replay_ended_by_a_signal_removes_its_functions(platform: Live, trace: Path, ending: signal.Signals) -> None:
    process = replay(platform, trace, "--speed", 1)
    platform.until(lambda: left_over(platform) and platform.instances(), "the first call of the replay")
    process.send_signal(ending)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, ""), err
    assert left_over(platform) == []
    platform.until(lambda: not platform.instances(), "the instances to end")


def test_a_refused_replay_shows_the_reason_and_leaves_nothing(platform: Live, trace: Path) -> None:
    process = replay(platform, trace, "-k", "wrong")
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (1, "")
    assert "unauthorized access" in err
    assert left_over(platform) == []
