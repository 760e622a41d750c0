"""What a gateway's HAProxy reads at its start."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from rescoldo.gateway import config
from rescoldo.gateway.config import GatewaySettings
from rescoldo.gateway.secrets import Secrets, read_secrets
from rescoldo.gateway.servers import Place, PoolName, Server, ServerKey


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(tmp_path / "g", "10.1.2.3:8080", pools=3)


def test_every_pool_is_in_the_file_and_those_that_drain_are_not(settings: GatewaySettings) -> None:
    config.write(settings)
    key = ServerKey(PoolName("p1"), "one")
    gone = ServerKey(PoolName("p1"), "two")
    place = Place("10.0.0.1", 8080, 8082)
    config.write_pools(settings, [Server(key, place), Server(gone, place, draining=True)], {key: 17, gone: 18})
    lines = settings.pools_file.read_text().splitlines()
    assert [line for line in lines if line.startswith("backend")] == [f"backend p{n} from workers" for n in range(3)]
    (server,) = [line for line in lines if "server " in line]
    assert server.startswith("  server one 10.0.0.1:8080 id 17 weight 100 slowstart 4000ms ")


def test_a_map_is_read_as_it_was_written(settings: GatewaySettings) -> None:
    config.write(settings)
    config.write_map(settings, config.POOLS, {"blue": "p0", "*": "1"})
    assert config.read_map(settings, config.POOLS) == {"blue": "p0", "*": "1"}
    settings.map_file(config.POOLS).unlink()
    assert config.read_map(settings, config.POOLS) == {}


def test_what_an_earlier_agent_left_is_kept(settings: GatewaySettings) -> None:
    config.write(settings)
    config.write_map(settings, config.POOLS, {"blue": "p0"})
    settings.pools_file.write_text("as it was")
    config.write(settings)
    assert config.read_map(settings, config.POOLS) == {"blue": "p0"}
    assert settings.pools_file.read_text() == "as it was"


def test_only_its_user_reads_the_secrets(settings: GatewaySettings) -> None:
    config.write(settings)
    config.write_map(settings, config.SECRETS, {"blue": "x"})
    assert stat.S_IMODE(settings.folder.stat().st_mode) == 0o700
    for name in config.MAPS:
        assert stat.S_IMODE(settings.map_file(name).stat().st_mode) == 0o600


def test_the_configuration_has_no_name_that_was_not_filled_in(settings: GatewaySettings) -> None:
    text = config.render(settings)
    assert '"${RESCOLDO_CONTROL-10.1.2.3:8080}"' in text and '"${RESCOLDO_GATEWAY-0.0.0.0:8080}"' in text
    assert "$" not in text.replace("${RESCOLDO_", "")


def test_haproxy_reads_the_authority_if_there_is_one_and_keeps_the_one_that_it_has(settings: GatewaySettings) -> None:
    config.write(settings)
    assert config.read_authority(settings) == "" and "ca-file" not in settings.config_file.read_text()
    config.write(settings, "one")
    assert config.read_authority(settings) == "one"
    assert f"verify required ca-file {settings.authority_file}" in settings.config_file.read_text()
    config.write(settings, "another")
    assert config.read_authority(settings) == "one", "the agent tells a HAProxy that runs"


# -- secrets


def test_secrets_are_read_from_a_mounted_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_secrets(tmp_path) == Secrets()
    for name, value in {
        "pools/blue": "a-secret-of-blue\n", "pools/red": "short", "pools/green": "two lines\nof sixteen characters",
        "pools/..data": "kubelet-s-own-link", "control/now": "a-secret-of-control", "control/next": "its-next-secret-0",
        "authority/tls.crt": "a certificate\n",
    }.items():  # fmt: skip
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(value)
    assert read_secrets(tmp_path) == Secrets(
        {"blue": "a-secret-of-blue"}, frozenset({"a-secret-of-control", "its-next-secret-0"}), "a certificate\n"
    )
    assert [Path(record.getMessage().split()[2]).name for record in caplog.records] == ["green", "red"]
    assert "sixteen" not in caplog.text and "short" not in caplog.text


def test_secrets_do_not_show_in_a_representation() -> None:
    assert "hidden" not in repr(Secrets({"blue": "hidden"}, frozenset({"hidden"})))
