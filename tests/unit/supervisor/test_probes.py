from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from rescoldo.supervisor.probes import Probe


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(tmp_path / "p.sock"))
        sock.listen()
        sock.setblocking(False)
        yield sock


def probe(tmp_path: Path) -> Probe:
    return Probe(tmp_path / "p.sock", b"alive?\n")


async def answer(listener: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    connection, _ = await loop.sock_accept(listener)
    with connection:
        question = await loop.sock_recv(connection, 100)
        await loop.sock_sendall(connection, b"yes")
    return question


async def test_any_answer_counts(listener: socket.socket, tmp_path: Path) -> None:
    answering = asyncio.create_task(answer(listener))
    assert await probe(tmp_path).answered(5.0)
    assert await answering == b"alive?\n"


@pytest.mark.slow
async def test_a_process_that_accepts_and_says_nothing_has_not_answered(
    listener: socket.socket, tmp_path: Path
) -> None:
    assert not await probe(tmp_path).answered(1.0)


@pytest.mark.slow
async def test_a_process_that_does_not_listen_yet_is_probed_again(listener: socket.socket, tmp_path: Path) -> None:
    path = tmp_path / "p.sock"
    path.rename(tmp_path / "elsewhere")
    asking = asyncio.create_task(probe(tmp_path).answered(5.0))
    await asyncio.sleep(0.1)  # so that at least one probe is refused
    (tmp_path / "elsewhere").rename(path)
    await answer(listener)
    assert await asking


@pytest.mark.slow
async def test_a_process_that_does_not_listen_has_not_answered(tmp_path: Path) -> None:
    assert not await probe(tmp_path).answered(1.0)
