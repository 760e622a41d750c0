"""Reads the text of a stack file from a path, an http(s) URL or a default name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rescoldo.model.errors import InvalidInput
from rescoldo.stack.document import MAX_BYTES

DEFAULT_NAMES = ("stack.yaml", "stack.yml")
FETCH_TIMEOUT = 20.0  # seconds for a stack file at a URL


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a file, its name in messages, and the folder of its relative paths."""

    name: str
    text: str
    folder: Path

    def path(self, relative: str) -> Path:
        """Return a path of the file: relative to its folder or, as in faas-cli, to the current one."""
        beside = self.folder / relative
        return beside if beside.exists() or not Path(relative).exists() else Path(relative)


def is_url(location: str) -> bool:
    """Return whether `location` is an http(s) URL."""
    return location.startswith(("http://", "https://"))


def default_file(folder: Path) -> Path | None:
    """Return stack.yaml, else stack.yml, in `folder`; None without either."""
    return next((folder / name for name in DEFAULT_NAMES if (folder / name).is_file()), None)


def read_source(location: str) -> Source:
    """Read a path or URL. Raises InvalidInput if it cannot be read or has more than MAX_BYTES."""
    if is_url(location):
        return Source(location, _decode(_fetch(location), location), Path())
    path = Path(location)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"{location}: cannot be read: {error.strerror or error}") from error
    return Source(location, _decode(data, location), path.parent)


def _decode(data: bytes, name: str) -> str:
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"{name}: larger than the {MAX_BYTES:,} bytes allowed")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{name}:{line}: not UTF-8 text; save the file as UTF-8") from error


def _fetch(url: str) -> bytes:
    from urllib.error import URLError  # 50 ms to import, and only URLs need it
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=FETCH_TIMEOUT) as response:
            return bytes(response.read(MAX_BYTES + 1))
    except (URLError, OSError, ValueError) as error:
        raise InvalidInput(f"{url}: cannot be fetched: {error.reason if type(error) is URLError else error}") from error
