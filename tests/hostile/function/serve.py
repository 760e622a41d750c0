"""The attacker as a program that speaks HTTP: exec'd in its sandbox, on a port of its own choice."""

from __future__ import annotations

import importlib
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), HERE]  # the bundle, and the parts of rescoldo that it contains
handle = importlib.import_module("function.handler").handle


class Handler(BaseHTTPRequestHandler):
    """GET answers that the program is awake, POST attacks."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer("awake")

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(handle(self, None))

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


if __name__ == "__main__":
    print(json.dumps({"pid": os.getpid()}), flush=True)
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
