"""A worker's connections to its control while its certificate is renewed; over the real link."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from rescoldo.link.client import ControlClient
from rescoldo.link.identity import Identity
from rescoldo.link.protocol import Unreachable
from support.served_control import ServedControl

RENEWED = "rescoldo://renewed"


@pytest.fixture
def control(tmp_path: Path) -> Iterator[ServedControl]:
    found = ServedControl(tmp_path)
    with found.serving():
        yield found


async def test_requests_under_way_end_with_the_old_certificate_and_others_have_the_new_one(
    control: ServedControl, tmp_path: Path
) -> None:
    identity = Identity(control.identity(tmp_path / "identity"))
    client = ControlClient(control.url, identity.read())
    digest = control.put("bundles", bytes(2**24))
    assert await client.versions() == {}
    changes, archive = client.changes(), client.archive("bundles", digest)
    assert await anext(changes) is None
    received = len(await anext(archive))

    control.identity(tmp_path / "identity", also=RENEWED)
    await identity.look(client.renew)
    assert await client.versions() == {}
    assert [RENEWED in peer for peer in control.peers] == [False, False, False, True]
    received += sum([len(chunk) async for chunk in archive])
    assert received == 2**24, "what was under way is whole"
    with pytest.raises(Unreachable, match="another certificate"):
        await anext(changes)
    async with aclosing(client.changes()) as again:  # type: ignore[type-var]
        assert await anext(again) is None
        assert RENEWED in control.peers[-1]
    assert not client._users, "nothing of the old certificate is left"
    await client.close()


async def test_idle_connections_of_the_old_certificate_are_closed(control: ServedControl, tmp_path: Path) -> None:
    identity = Identity(control.identity(tmp_path / "identity"))
    client = ControlClient(control.url, identity.read())
    assert await client.versions() == {}
    before = client._http
    control.identity(tmp_path / "identity", also=RENEWED)
    await identity.look(client.renew)
    assert before.is_closed and not client._http.is_closed
    await client.close()
