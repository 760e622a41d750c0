"""The two files of the gateway's credentials."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from rescoldo.api.credentials import Credentials, load_or_create
from rescoldo.model.errors import InvalidInput, StoreError


def test_missing_credentials_are_created_once_and_readable_by_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "secrets"
    made = load_or_create(folder)
    assert made.user == "admin"
    assert len(made.password) >= 32
    assert load_or_create(folder) == made
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"basic-auth-user": 0o600, "basic-auth-password": 0o600}


def test_two_platforms_have_two_passwords(tmp_path: Path) -> None:
    assert load_or_create(tmp_path / "a").password != load_or_create(tmp_path / "b").password


def test_existing_credentials_are_kept_and_stripped_of_white_space(tmp_path: Path) -> None:
    (tmp_path / "basic-auth-user").write_text("me\n")
    (tmp_path / "basic-auth-password").write_text(" with spaces \r\n")
    assert load_or_create(tmp_path) == Credentials("me", "with spaces")


@pytest.mark.parametrize("name", ["basic-auth-user", "basic-auth-password"])
@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe"])
def test_a_missing_empty_or_binary_file_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    load_or_create(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=f"{name} is .*remove both files"):
        load_or_create(tmp_path)


def test_a_colon_in_the_user_name_is_refused(tmp_path: Path) -> None:
    load_or_create(tmp_path)
    (tmp_path / "basic-auth-user").write_text("a:b")
    with pytest.raises(InvalidInput, match="':'"):
        load_or_create(tmp_path)


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        load_or_create(tmp_path / "file" / "secrets")


def test_repr_hides_the_credentials() -> None:
    assert "s3cret" not in repr(Credentials("name", "s3cret"))
    assert "name" not in repr(Credentials("name", "s3cret"))
