"""Starting in the background: a success is the new platform's own answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rescoldo.model.errors import RescoldoError
from rescoldo.model.settings import Settings
from rescoldo.supervisor import place, start


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *words: object) -> None:
        pass


@pytest.fixture
def other() -> Iterator[str]:
    """The metrics address of another platform, which is healthy."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_the_answer_of_another_platform_is_no_start(other: str, tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path), run="/nonexistent", gateway="127.0.0.1:1", metrics=other)
    assert start.answers(other)
    with place.lock(settings), pytest.raises(RescoldoError, match="is already served by process"):
        start.start_background(settings)
