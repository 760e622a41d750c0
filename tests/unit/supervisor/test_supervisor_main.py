"""What a worker must have before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from rescoldo.isolation import landlock
from rescoldo.model.errors import InvalidInput
from rescoldo.model.settings import Settings
from rescoldo.supervisor import main, place


class Reached(Exception):
    """The start went beyond the checks."""


@pytest.fixture(autouse=True)
def stop_after_the_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    def reach(_: Settings) -> None:
        raise Reached

    monkeypatch.setattr(place, "prepare", reach)
    monkeypatch.setattr(main, "obstacle", lambda: "")
    monkeypatch.setattr(main, "level", lambda: "unprivileged")
    monkeypatch.setattr(landlock, "abi", lambda: 7)


def worker(identity: Path, **others: object) -> Settings:
    (identity / "pool-secret").write_text("secret-of-the-pool\n")
    return Settings("/d", "/r", join="https://control:8443", identity=str(identity), **others)  # type: ignore[arg-type]


def test_a_worker_without_its_pools_secret_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(Reached):
        main.run(worker(tmp_path))
    (tmp_path / "pool-secret").unlink()
    with pytest.raises(InvalidInput, match=r"--identity: .*pool-secret cannot be read"):
        main.run(Settings("/d", "/r", join="https://control:8443", identity=str(tmp_path)))
    with pytest.raises(InvalidInput, match="--join needs --identity"):
        main.run(Settings("/d", "/r", join="https://control:8443"))


def test_without_landlock_a_worker_starts_only_where_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    with pytest.raises(InvalidInput, match=r"no Landlock.*--allow-without-landlock"):
        main.run(worker(tmp_path))
    with pytest.raises(Reached):
        main.run(worker(tmp_path, allow_without_landlock=True))
    with pytest.raises(Reached):
        main.run(Settings("/d", "/r"))  # no worker
    monkeypatch.setattr(main, "level", lambda: "full")  # functions have users and roots of their own
    with pytest.raises(Reached):
        main.run(worker(tmp_path))
