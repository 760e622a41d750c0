"""Runs a whole real worker for tests; its requests say its pool's secret, as a gateway's do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.gateway import Answer
from support.live import Live

POOL_SECRET = "secret-of-the-pool"


class LiveWorker(Live):
    """A worker of the control at `join`. `secret`: what its requests say; None: they say nothing."""

    def __init__(self, join: str, identity: Path, **settings: Any) -> None:
        super().__init__(join=join, identity=str(identity), basic_auth=False, **settings)
        self.secret: str | None = POOL_SECRET

    def call(
        self, method: str, path: str, body: bytes | str | None = None, headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> Answer:
        proof = {} if self.secret is None else {"X-Rescoldo-Pool": self.secret}
        return super().call(method, path, body, {**proof, **(headers or {})}, timeout)
