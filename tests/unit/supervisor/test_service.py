"""The systemd unit: its content, and which files rescoldo may replace or remove."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from rescoldo.model.errors import Conflict, InvalidInput, NotFound
from rescoldo.supervisor import parts, service, start
from rescoldo.supervisor.service import Service, install, uninstall

COMMAND = ("/usr/bin/python3", "-P", "-m", "rescoldo.cli", "serve", "--data", "/srv/a b%c", "--port", "8080")
ODD = 'a "quoted" \\ $HOME ${HOME} 100% ; word'


@pytest.fixture(autouse=True)
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(service, "SYSTEM_UNITS", tmp_path / "system")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def of_data(data: str = "/srv/a b%c", *, of_user: bool = False) -> Service:
    return Service(COMMAND, {}, data, of_user=of_user)


def options(unit: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))


def test_a_unit_runs_the_command_and_stops_it_through_its_guardian() -> None:
    found = options(of_data().unit())
    assert found["ExecStart"] == (
        ':/usr/bin/python3 -P -m rescoldo.cli serve --data "/srv/a b%%c" --port 8080'
    )  # `:` keeps "$" literal; "%%" stands for one "%"
    assert (found["Type"], found["KillMode"], found["Restart"]) == ("exec", "mixed", "on-failure")
    assert found["RestartPreventExitStatus"] == str(os.EX_CONFIG)


def test_systemd_waits_longer_than_the_platform_takes_to_stop() -> None:
    seconds = float(options(of_data().unit())["TimeoutStopSec"])
    assert seconds > max(parts.CONTROLLER_GRACE, parts.EDGE_GRACE) + parts.NODE_GRACE
    assert seconds > start.STOP_SECONDS


def test_systemd_waits_for_a_platform_that_drains() -> None:
    drains = Service(COMMAND, {}, "/d", of_user=False, longest_drain=33.0)
    assert float(options(drains.unit())["TimeoutStopSec"]) == service.STOP_SECONDS + 33


def test_the_unit_of_a_user_has_no_options_for_root() -> None:
    of_machine, of_user = options(of_data().unit()), options(of_data(of_user=True).unit())
    assert of_machine.keys() - of_user.keys() == {"Wants", "After", "ProtectSystem", "CapabilityBoundingSet"}
    assert (of_machine["WantedBy"], of_user["WantedBy"]) == ("multi-user.target", "default.target")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
@pytest.mark.parametrize("of_user", [False, True])
def test_systemd_accepts_the_unit(tmp_path: Path, of_user: bool) -> None:
    unit = tmp_path / service.NAME
    one = Service(("/bin/true", ODD), {"RESCOLDO_HAPROXY": ODD}, ODD, of_user=of_user)
    unit.write_text(one.unit())
    command = ["systemd-analyze", "verify", "--man=no", *(["--user"] if of_user else []), str(unit)]
    found = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    )
    said = [line for line in found.stderr.splitlines() if service.NAME in line]
    assert (found.returncode, said) == (0, []), found.stderr


def test_words_are_quoted_so_that_systemd_reads_them_unchanged() -> None:
    found = options(Service(("/bin/true", ODD, "line\nbreak"), {"A": "b c"}, "/d", of_user=True).unit())
    # except for %, systemd unquotes like a POSIX shell within double quotes
    words = shlex.split(found["ExecStart"].replace("%%", "%"))
    assert words == [":/bin/true", ODD, "line\\nbreak"]
    assert found["Environment"] == '"A=b c"'


def test_a_platforms_own_unit_is_replaced_and_removed(units: Path) -> None:
    assert install(of_data(), overwrite=False) is False
    assert install(of_data(), overwrite=False) is True
    path = units / "system" / service.NAME
    assert path.read_text() == of_data().unit()
    assert path.stat().st_mode & 0o777 == 0o644
    boot = units / "system" / "multi-user.target.wants" / service.NAME
    boot.parent.mkdir()
    boot.symlink_to(path)
    uninstall(of_data(), overwrite=False)
    assert not path.exists() and not boot.is_symlink()
    with pytest.raises(NotFound, match="no service is installed"):
        uninstall(of_data(), overwrite=False)


def test_the_unit_of_another_platform_is_kept_without_overwrite() -> None:
    install(of_data("/srv/one"), overwrite=False)
    with pytest.raises(Conflict, match="that of the platform of /srv/one; --yes replaces it"):
        install(of_data("/srv/two"), overwrite=False)
    with pytest.raises(Conflict, match="that of the platform of /srv/one; --yes removes it anyway"):
        uninstall(of_data("/srv/two"), overwrite=False)
    assert install(of_data("/srv/two"), overwrite=True) is True
    assert "/srv/two" in of_data("/srv/two").path.read_text().splitlines()[0]


@pytest.mark.parametrize("text", ["", "[Unit]\nDescription=mine\n"])
def test_a_unit_that_rescoldo_did_not_write_is_kept_without_overwrite(text: str) -> None:
    path = of_data(of_user=True).path
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(Conflict, match="not written by rescoldo"):
        install(of_data(of_user=True), overwrite=False)
    with pytest.raises(Conflict, match="not written by rescoldo; --yes removes it anyway"):
        uninstall(of_data(of_user=True), overwrite=False)
    assert path.read_text() == text
    uninstall(of_data(of_user=True), overwrite=True)
    assert not path.exists()


def test_a_unit_that_cannot_be_written_is_named_with_the_reason(units: Path) -> None:
    (units / "system").write_text("no folder")
    with pytest.raises(InvalidInput, match=rf"cannot change {units}/system/{service.NAME}: "):
        install(of_data(), overwrite=False)


def test_without_permission_the_message_offers_root_or_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(InvalidInput, match="Permission denied; run it as root, or add --user"):
        install(of_data(), overwrite=False)
