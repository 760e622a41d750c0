"""A worker's certificate, and its renewal."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

import pytest

from rescoldo.link.identity import Identity
from rescoldo.model.errors import InvalidInput
from support.certificates import Authority
from support.patience import until


class Folder:
    """An identity's folder, as kubelet fills it."""

    def __init__(self, place: Path) -> None:
        self.path = place / "identity"
        self.path.mkdir()
        self._authority = Authority(place)
        self.issue()

    def issue(self) -> None:
        pair = self._authority.pair("worker", "URI:rescoldo://pool/blue")
        for name, source in (("tls.crt", pair.certificate), ("tls.key", pair.key)):
            (self.path / name).write_bytes(source.read_bytes())
        (self.path / "ca.crt").write_bytes(self._authority.root.certificate.read_bytes())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


class Renewals:
    """Looks at an identity's files, and counts what is told."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self.contexts: list[ssl.SSLContext] = []

    async def renew(self, context: ssl.SSLContext) -> None:
        self.contexts.append(context)

    async def look(self) -> int:
        """Look; return how many renewals were told up to now."""
        await self._identity.look(self.renew)
        return len(self.contexts)


async def test_each_renewal_is_told_once(folder: Folder) -> None:
    identity = Identity(folder.path)
    identity.read()
    renewals = Renewals(identity)
    assert await renewals.look() == 0
    for count in (1, 2):
        folder.issue()
        assert [await renewals.look() for _ in range(3)] == [count] * 3


async def test_half_a_renewal_changes_nothing_until_the_rest_is_there(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    identity = Identity(folder.path)
    identity.read()
    renewals, key = Renewals(identity), folder.path / "tls.key"
    before = key.read_bytes()
    folder.issue()
    after = key.read_bytes()
    key.write_bytes(before)
    with caplog.at_level(logging.ERROR):
        assert [await renewals.look() for _ in range(3)] == [0, 0, 0]
    assert len(caplog.records) == 1, "it is logged once"
    assert "keeps its certificate" in caplog.text and "PRIVATE" not in caplog.text
    key.write_bytes(after)
    assert [await renewals.look() for _ in range(2)] == [1, 1]


async def test_changes_are_looked_for_again_and_again(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rescoldo.link.identity.LOOK_SECONDS", 0.005)
    identity = Identity(folder.path)
    identity.read()
    renewals = Renewals(identity)
    following = asyncio.create_task(identity.follow(renewals.renew))
    for count in (1, 2):
        folder.issue()
        await until(lambda count=count: len(renewals.contexts) == count)  # type: ignore[misc]
    following.cancel()


@pytest.mark.parametrize("name", ["tls.crt", "tls.key", "ca.crt"])
def test_a_missing_or_broken_file_is_an_error_that_names_the_flag(folder: Folder, name: str) -> None:
    (folder.path / name).write_text("nonsense")
    with pytest.raises(InvalidInput, match=r"--identity: .* must have tls\.crt, tls\.key, ca\.crt"):
        Identity(folder.path).read()
    (folder.path / name).unlink()
    with pytest.raises(InvalidInput, match="--identity"):
        Identity(folder.path).read()
