"""A certificate that is replaced while the platform runs."""

from __future__ import annotations

import asyncio
import logging

import pytest

from rescoldo.control.renewal import LOOK_SECONDS, Renewal
from rescoldo.model.errors import InvalidInput


class Files:
    """The files on disk: each look takes the next outcome."""

    def __init__(self, *outcomes: bool | Exception) -> None:
        self.outcomes = list(outcomes)
        self.reloads = 0
        self.renewal = Renewal(self.renew, self.reload)

    def renew(self) -> bool:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def reload(self) -> None:
        self.reloads += 1


async def test_the_edge_is_reloaded_only_when_the_certificate_was_replaced() -> None:
    files = Files(False, True, False)
    found = []
    for _ in range(3):
        await files.renewal.look()
        found.append(files.reloads)
    assert found == [0, 1, 1]


async def test_a_broken_certificate_is_logged_once_and_a_problem_until_it_is_fixed(
    caplog: pytest.LogCaptureFixture
) -> None:
    broken = InvalidInput("cert.pem: no certificate in it")
    files = Files(broken, broken, OSError("cert.pem is gone"), True)
    problems = []
    for _ in range(4):
        await files.renewal.look()
        problems.append(files.renewal.problem)
    assert problems == [broken.message, broken.message, "cert.pem is gone", ""]
    assert len([one for one in caplog.records if one.levelno == logging.ERROR]) == 2
    assert files.reloads == 1


async def test_the_certificate_is_polled_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(True, True)
    looked: list[float] = []

    async def sleep(seconds: float) -> None:
        looked.append(seconds)
        if len(looked) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr("rescoldo.control.renewal.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await files.renewal.run()
    assert (looked, files.reloads) == ([LOOK_SECONDS] * 3, 2)
