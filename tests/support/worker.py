"""Runs a whole real worker for tests; its requests say its pool's secret, as a gateway's do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.gateway import Answer, Gateway
from support.live import Live
from support.unprivileged import UnprivilegedLive

POOL_SECRET = "secret-of-the-pool"


class _Proven(Gateway):
    """A gateway whose requests say `secret`; None: they say nothing."""

    secret: str | None = POOL_SECRET

    def call(
        self, method: str, path: str, body: bytes | str | None = None, headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> Answer:
        proof = {} if self.secret is None else {"X-Rescoldo-Pool": self.secret}
        return super().call(method, path, body, {**proof, **(headers or {})}, timeout)


class LiveWorker(_Proven, Live):
    """A worker of the control at `join`."""

    def __init__(self, join: str, identity: Path, **settings: Any) -> None:
        super().__init__(join=join, identity=str(identity), basic_auth=False, **settings)


class UnprivilegedWorker(_Proven, UnprivilegedLive):
    """The same as another user than root."""

    def __init__(self, library: Path, python: str, join: str, identity: Path, **settings: Any) -> None:
        super().__init__(library, python, join=join, identity=str(identity), basic_auth=False, **settings)
