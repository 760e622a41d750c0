"""`rescoldo serve --install-service`: the written unit, and the output."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from rescoldo.supervisor import service


@pytest.fixture(autouse=True)
def units(tmp_path, monkeypatch):
    monkeypatch.setattr(service, "SYSTEM_UNITS", tmp_path / "units")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("RESCOLDO_HAPROXY", raising=False)
    return tmp_path / "units"


RESTART = ("daemon-reload", "enable rescoldo.service", "restart rescoldo.service")  # `enable --now` restarts nothing


def command(unit: Path) -> list[str]:
    (line,) = (line for line in unit.read_text().splitlines() if line.startswith("ExecStart="))
    return shlex.split(line.removeprefix("ExecStart=:"))


def test_the_service_runs_serve_with_the_given_flags(run, units, home):
    flags = ["--port", "9000", "--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "::1", "--no-basic-auth",
             "--default-memory", "1Gi", "--tls-cert", "cert.pem"]  # fmt: skip
    status, out, err = run("serve", "--install-service", *flags)
    assert (status, err) == (0, "")
    given = [*flags[:-1], str(Path("cert.pem").absolute())]
    words = command(units / "rescoldo.service")
    assert words[:5] == [sys.executable, "-P", "-m", "rescoldo.cli", "serve"]
    assert words[5:7] == ["--data", str(home / ".local/share/rescoldo")]
    assert sorted(words[7:]) == sorted(given)
    assert out == (
        f"{units}/rescoldo.service is written.\n\nNext:\n  systemctl daemon-reload\n"
        "  systemctl enable --now rescoldo.service\n"
    )


def test_installing_again_replaces_the_unit_and_json_says_so(run, units, tmp_path):
    run("serve", "--install-service", "--data", str(tmp_path / "d"))
    status, out, _ = run("serve", "--install-service", "--data", str(tmp_path / "d"), "--port", "81", "--json")
    assert status == 0
    assert json.loads(out) == {
        "unit": f"{units}/rescoldo.service",
        "done": "replaced",
        "run": [f"systemctl {verb}" for verb in RESTART],
    }
    assert command(units / "rescoldo.service")[-2:] == ["--port", "81"]


def test_a_chosen_haproxy_is_passed_on(run, units, monkeypatch):
    monkeypatch.setenv("RESCOLDO_HAPROXY", "/opt/haproxy")
    run("serve", "--install-service")
    assert "\nEnvironment=RESCOLDO_HAPROXY=/opt/haproxy\n" in (units / "rescoldo.service").read_text()


def test_a_user_installs_and_removes_a_service_of_their_own(run, units, tmp_path):
    unit = tmp_path / "config/systemd/user/rescoldo.service"
    assert "loginctl enable-linger" in run("serve", "--install-service", "--user")[1]
    assert unit.exists() and not units.exists()
    assert run("serve", "--uninstall-service", "--user") == (
        0,
        f"{unit} is removed.\n\nNext:\n  systemctl --user stop rescoldo.service\n  systemctl --user daemon-reload\n",
        "",
    )
    assert not unit.exists()
    status, _, err = run("serve", "--uninstall-service", "--user")
    assert status == 1 and "no service is installed" in err


def test_another_platforms_unit_is_replaced_only_with_yes(run, units, tmp_path):
    run("serve", "--install-service", "--data", str(tmp_path / "one"))
    status, _, err = run("serve", "--install-service", "--data", str(tmp_path / "two"))
    assert status == 1 and f"that of the platform of {tmp_path}/one; --yes replaces it" in err
    assert run("serve", "--install-service", "--data", str(tmp_path / "two"), "--yes")[0] == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--install-service", "--uninstall-service"], "exclude each other"),
        (["--install-service", "--detach"], "--detach excludes"),
        (["--user"], "need --install-service"),
        (["--yes", "--detach"], "need --install-service"),
    ],
)
def test_invalid_combinations_of_flags_are_refused(run, units, flags, said):
    status, _, err = run("serve", *flags)
    assert status == 2 and said in err and not units.exists()
