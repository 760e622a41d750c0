"""A source package whose build looks around: what it sees becomes a module of its own, `spy.SEEN`."""

from __future__ import annotations

import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

NAME = "spy-1.0.tar.gz"
# its own build backend (PEP 517), so that no other package is needed; `look` is what a test wants to know
_BACKEND = """\
import json, os, zipfile

def look():
{look}

def build_wheel(folder, settings=None, metadata=None):
    with zipfile.ZipFile(os.path.join(folder, 'spy-1.0-py3-none-any.whl'), 'w') as wheel:
        wheel.writestr('spy.py', 'SEEN = %r\\n' % json.dumps(look()))
        about = 'spy-1.0.dist-info/'
        wheel.writestr(about + 'METADATA', 'Metadata-Version: 2.1\\nName: spy\\nVersion: 1.0\\n')
        wheel.writestr(about + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: spy\\nRoot-Is-Purelib: true\\n'
                       'Tag: py3-none-any\\n')
        wheel.writestr(about + 'RECORD', '')
    return 'spy-1.0-py3-none-any.whl'
"""


def spy_package(*look: str) -> bytes:
    """Return the archive; `look` are the lines of a function that returns what is seen, as JSON can have it."""
    files = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: spy\nVersion: 1.0\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": _BACKEND.format(look="\n".join(f"    {line}" for line in look)),
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"spy-1.0/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


@contextmanager
def served(folder: Path, *look: str, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve the package from `folder`; the URL."""
    (folder / NAME).write_bytes(spy_package(*look))
    with http.server.ThreadingHTTPServer((host, 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{host}:{server.server_port}/{NAME}"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
