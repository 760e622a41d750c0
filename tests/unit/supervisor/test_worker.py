"""What a worker must have before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from rescoldo.isolation import landlock
from rescoldo.model.errors import InvalidInput
from rescoldo.model.settings import Settings
from rescoldo.supervisor import main, worker
from rescoldo.supervisor.worker import check_worker


@pytest.fixture(autouse=True)
def unprivileged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "level", lambda: "unprivileged")
    monkeypatch.setattr(landlock, "abi", lambda: 7)


def joined(identity: Path, **others: object) -> Settings:
    (identity / "pool-secret").write_text("secret-of-the-pool\n")
    return Settings("/d", "/r", join="https://control:8443", identity=str(identity), **others)  # type: ignore[arg-type]


def test_a_worker_without_its_pools_secret_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = joined(tmp_path)
    check_worker(found)
    (tmp_path / "pool-secret").unlink()
    monkeypatch.setattr(main, "obstacle", lambda: "")
    with pytest.raises(InvalidInput, match=r"--identity: .*pool-secret cannot be read"):
        main.run(found)
    with pytest.raises(InvalidInput, match="--join needs --identity"):
        main.run(Settings("/d", "/r", join="https://control:8443"))


def test_without_landlock_a_worker_starts_only_where_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    with pytest.raises(InvalidInput, match=r"no Landlock.*--allow-without-landlock"):
        check_worker(joined(tmp_path))
    check_worker(joined(tmp_path, allow_without_landlock=True))
    monkeypatch.setattr(worker, "level", lambda: "full")  # functions have users and roots of their own
    check_worker(joined(tmp_path))


def test_an_identity_that_functions_may_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "needed_directories", lambda: (str(tmp_path),))
    inside = tmp_path / "identity"
    inside.mkdir()
    with pytest.raises(InvalidInput, match=f"functions may read {tmp_path}"):
        check_worker(joined(inside))
