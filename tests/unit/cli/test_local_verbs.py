"""serve, up and down, with a stand-in for the supervisor's three functions."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from rescoldo.cli import platform
from rescoldo.model.errors import RescoldoError
from rescoldo.model.scaling import ScalingDefaults
from rescoldo.supervisor import main, start


@pytest.fixture
def supervisor(monkeypatch):
    calls = []

    def record(name, result):
        def call(settings):
            calls.append((name, settings))
            if isinstance(result, Exception):
                raise result
            return result

        return call

    parts = SimpleNamespace(
        calls=calls,
        start_background=record("start", None),
        run=record("run", 7),
        stop=record("stop", True),
        abandoned=lambda settings: False,
        record=record,
    )
    for module, names in ((start, ("start_background", "stop", "abandoned")), (main, ("run",))):
        for name in names:
            monkeypatch.setattr(module, name, lambda settings, name=name: getattr(parts, name)(settings))
    return parts


def test_serve_runs_in_the_foreground_with_its_settings(run, supervisor, tmp_path):
    argv = ["--data", str(tmp_path / "d"), "--port", "9000", "--no-basic-auth", "--slots", "10"]
    assert run("serve", *argv)[0] == 7
    ((name, settings),) = supervisor.calls
    assert (name, settings.data, settings.gateway) == ("run", str(tmp_path / "d"), "127.0.0.1:9000")
    assert (settings.basic_auth, settings.slots, settings.metrics) == (False, 10, "127.0.0.1:8082")


def test_serve_has_flags_for_the_default_scaling_of_functions(run, supervisor):
    run("serve")
    run("serve", "--default-max-scale", "5", "--default-utilization", "90", "--default-window", "30s",
        "--default-scale-down-delay", "1m")  # fmt: skip
    found = [settings.scaling for _, settings in supervisor.calls]
    assert found == [ScalingDefaults(), ScalingDefaults(5, 0.9, 30.0, 60.0)]
    status, _, err = run("serve", "--default-max-scale", "0")
    assert status == 1 and "--default-max-scale: '0'" in err and len(supervisor.calls) == 2


def test_serve_has_a_flag_that_hides_the_gateway_from_functions(run, supervisor):
    run("serve")
    run("serve", "--no-gateway-names")
    assert [settings.gateway_names for _, settings in supervisor.calls] == [True, False]


def test_serve_has_a_flag_for_the_default_memory_limit(run, supervisor):
    for words in ((), ("--default-memory", "1Gi"), ("--default-memory", "0")):
        run("serve", *words)
    assert [settings.limits.memory for _, settings in supervisor.calls] == [512 * 2**20, 2**30, 0]
    status, _, err = run("serve", "--default-memory", "much")
    assert status == 1 and "--default-memory: 'much'" in err and len(supervisor.calls) == 3


def test_serve_detached_prints_its_address(run, supervisor, home):
    assert run("serve", "-d", "--gateway-address", "0.0.0.0:81")[:2] == (0, "http://0.0.0.0:81\n")
    ((name, settings),) = supervisor.calls
    assert (name, settings.data) == ("start", str(home / ".local/share/rescoldo")) and settings.basic_auth


@pytest.mark.parametrize("address", ["8080", "host:", "h:99999", ":80"])
def test_an_address_without_host_or_port_is_a_usage_error(run, supervisor, address):
    status, _, err = run("serve", "--gateway-address", address)
    assert status == 2 and "write HOST:PORT" in err and supervisor.calls == []


def test_down_stops_the_platform_and_says_if_none_runs(run, supervisor):
    assert run("down")[:2] == (0, "Stopped.\n")
    supervisor.stop = supervisor.record("stop", False)
    assert run("down") == (1, "", "No platform runs here.\n")


def test_up_starts_a_platform_where_none_answers(run, supervisor, tmp_path):
    run("new", "hello", "--lang", "python3")
    supervisor.start_background = supervisor.record("start", RescoldoError("it ended: last words"))
    status, _, err = run(
        "up", "-g", "http://localhost:1", "--data", str(tmp_path / "d"), "--metrics-address", "127.0.0.1:2"
    )
    assert status == 1 and err.endswith("Error: it ended: last words\n")
    ((name, settings),) = supervisor.calls
    assert (name, settings.gateway, settings.metrics) == ("start", "127.0.0.1:1", "127.0.0.1:2")
    assert settings.data == str(tmp_path / "d")


def test_up_starts_nothing_with_no_start_or_for_another_gateway(run, supervisor):
    run("new", "hello", "--lang", "python3")
    assert "no gateway answers at http://127.0.0.1:1" in run("up", "-g", "http://127.0.0.1:1", "--no-start")[2]
    assert run("up", "-g", "https://127.0.0.1:1")[0] == 1
    assert supervisor.calls == []


def test_up_starts_nothing_where_a_gateway_answers(run, supervisor, gateway):
    run("new", "hello", "--lang", "python3")
    gateway.answer("GET /healthz", 200)
    gateway.answer("POST /system/bundles", 200, {})
    assert run("up")[0] == 0 and supervisor.calls == []


def test_status_uses_the_address_of_the_data_directorys_platform(run, gateway, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENFAAS_URL")
    monkeypatch.setattr("rescoldo.cli.platform.run_dir_for", lambda data: Path(data))
    settings = platform.local_settings(tmp_path, gateway=gateway.url.removeprefix("http://"))
    settings.save()
    gateway.answer("GET /system/status", 200, {"version": "9"})
    assert "version:      9\n" in run("status", "--data", str(tmp_path))[1]


def test_status_says_what_the_unprivileged_level_does_not_protect(run, gateway):
    for level, told in (("unprivileged", 1), ("full", 0)):
        gateway.answer("GET /system/status", 200, {"isolation": {"level": level, "limits": "memory polled"}})
        out = run("status", "--gateway", gateway.url)[1]
        assert out.count("unprivileged: shares its user with all functions; memory polled, no limit of cpu") == told
        gateway.answers.clear()


def test_status_in_a_workers_pod_proves_that_it_may_ask(run, gateway, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENFAAS_URL")
    monkeypatch.setattr("rescoldo.cli.platform.run_dir_for", lambda data: Path(data))
    identity = tmp_path / "identity"
    identity.mkdir()
    (identity / "pool-secret").write_text("first\nsecond\n")
    settings = platform.local_settings(tmp_path, gateway=gateway.url.removeprefix("http://"))
    replace(settings, identity=str(identity)).save()
    gateway.answer("GET /system/status", 200, {"version": "9"})
    assert run("status", "--data", str(tmp_path))[0] == 0
    assert run("status", "--data", str(tmp_path), "--gateway", gateway.url + "/other")[0] == 1
    asked = [call for call in gateway.calls if call.path == "/system/status"]
    assert [call.headers.get("X-Rescoldo-Pool") for call in asked] == ["first"]


def test_status_shows_the_cold_starts_of_all_functions(run, gateway):
    times = {"mean": 0.0031, "median": 0.003, "p99": 0.0121, "max": 0.5, "last": 0.00125}
    cold = {"calls": 5, "failed": {"busy": 1}, "phases": {"total": times}}
    gateway.answer("GET /system/status", 200, {"version": "9", "cold_starts": cold})
    out = run("status", "--gateway", gateway.url)[1]
    assert "Cold starts:  5 answered; failed wakes: 1 (1 busy)\n" in out
    assert out.splitlines()[-1].split() == ["total", "3.00", "ms", "12.10", "ms", "500.00", "ms", "1.25", "ms"]


def test_up_starts_a_platform_where_one_runs_unsupervised(run, supervisor, gateway):
    run("new", "hello", "--lang", "python3")
    supervisor.abandoned = lambda settings: True
    assert run("up")[0] == 0
    assert [name for name, _ in supervisor.calls] == ["start"]
