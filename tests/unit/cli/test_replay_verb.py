"""`rescoldo replay`: the table, the JSON, the picture and refused arguments."""

import json
from pathlib import Path

import pytest

from rescoldo.replay import picture

SHORT = ("replay", "--sample", "--minutes", "10")


def test_the_sample_is_simulated_with_three_windows_between_in_use_and_always_on(run):
    status, out, err = run(*SHORT)
    head, *lines = out.splitlines()
    assert (status, head.split()[:4]) == (0, ["Idle", "window", "Warm", "%"])
    assert [line.split("  ")[0].strip() for line in lines] == ["in use", "10s", "1m", "15m", "always on"]
    assert err.startswith("35 functions, minutes 480 to 489, 829 calls; always-on holds 2.89 GB")


def test_json_has_every_figure(run):
    status, out, _ = run(*SHORT, "--window", "10s", "--concurrency", "1", "--concurrency", "32", "--json")
    found = json.loads(out)
    assert (status, found["live"], found["minutes"], found["calls"]) == (0, False, 10, 829)
    one, many = found["settings"]
    assert (one["concurrency"], many["concurrency"], many["window_seconds"]) == (1, 32, 10.0)
    assert 0 < many["warm_percent_of_always_on"] < 40
    assert many["added_seconds"]["p50"] == 0.0 and many["added_seconds"]["max"] == pytest.approx(0.005, abs=1e-9)
    assert many["failed_calls"] == 0 and many["failures"] == {}
    assert len(many["warm_gb_by_minute"]) == len(many["used_gb_by_minute"]) == 10


def test_a_longer_cold_start_delays_more(run):
    means = [
        json.loads(run(*SHORT, "--window", "10s", "--cold-start", cost, "--json")[1])["settings"][0]["added_seconds"]
        for cost in ("5ms", "500ms")
    ]
    assert means[1]["mean"] > 50 * means[0]["mean"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["warm.svg", "warm.png"])
def test_the_picture_has_a_line_for_each_setting_and_is_the_same_each_time(run, name):
    status, _, err = run(*SHORT, "--window", "10s", "--window", "60s", "--picture", name)
    assert (status, err.splitlines()[-1]) == (0, f"Drawn: {name}")
    first = Path(name).read_bytes()
    run(*SHORT, "--window", "10s", "--window", "60s", "--picture", name)
    assert Path(name).read_bytes() == first
    if name.endswith(".svg"):
        for text in ("always on (100 %)", "idle window 10s (", "idle window 1m (", "in use ("):
            assert text in first.decode()
    else:
        assert first.startswith(b"\x89PNG")


def test_without_matplotlib_the_error_says_what_to_install(run, monkeypatch):
    monkeypatch.setattr(picture, "find_spec", lambda name: None)
    status, out, err = run(*SHORT, "--picture", "warm.svg")
    assert (status, out) == (1, "")
    assert "pipx install --force '.[charts]'" in err


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (("replay",), 2, "name one trace"),
        (("replay", ".", "--sample"), 2, "name one trace"),
        (("replay", "."), 1, "invocations.csv: cannot be read: No such file"),
        ((*SHORT, "--window", "ten"), 1, "--window: 'ten' is not a duration"),
        ((*SHORT, "--window", "2000h"), 1, "--window 2000h: use 0s to 604800s"),
        ((*SHORT, "--concurrency", "0"), 2, "--concurrency"),
        ((*SHORT, "--max-scale", "101"), 2, "--max-scale"),
        ((*SHORT, "--from", "1"), 1, "--from 1: use 480 to 539, the minutes of the trace"),
        ((*SHORT, "--functions", "36"), 1, "--functions 36: use 1 to 35, the functions of the trace"),
        ((*SHORT, "--speed", "10"), 2, "--speed needs --live"),
        ((*SHORT, "--live", "--cold-start", "5ms"), 2, "--cold-start excludes --live"),
        ((*SHORT, "--live", "--speed", "0"), 1, "--speed 0: use a number above 0"),
        ((*SHORT, "--live", "--window", "1s", "--speed", "100"), 1, "use --window 5s or more, or less speed"),
        ((*SHORT, "--live", "-g", "http://127.0.0.1:1"), 1, "no gateway answers at http://127.0.0.1:1"),
        ((*SHORT, "--picture", "warm.gif"), 1, "the name must end in .svg or .png"),
        ((*SHORT, "--picture", "nowhere/warm.svg"), 1, "there is no folder"),
        ((*SHORT, *(word for one in range(51) for word in ("--window", f"{one}s"))), 1, "at most 50"),
    ],
)
def test_invalid_arguments_are_refused_with_the_allowed_values(run, words, status, expected):
    found, out, err = run(*words)
    assert (found, out) == (status, "")
    assert expected in err
