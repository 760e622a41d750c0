"""The reference for a cold start: a stdlib http.server process with the handler of cold.py. Usage: PORT [ADDRESS]"""

import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


def handle(event: object, context: object) -> str:
    return str(os.getuid())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = handle(self, None).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


HTTPServer((sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
